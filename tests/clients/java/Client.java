import billing.v1.Billing.*;
import billing.v1.BillingServiceGrpc;
import billing.v1.BillingServiceGrpc.BillingServiceBlockingStub;
import com.google.protobuf.Any;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.ByteString;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.ListValue;
import com.google.protobuf.Message;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import common.v1.MoneyOuterClass.Money;
import io.grpc.CallOptions;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.protobuf.StatusProto;
import io.grpc.reflection.v1.ServerReflectionGrpc;
import io.grpc.reflection.v1.ServerReflectionRequest;
import io.grpc.reflection.v1.ServerReflectionResponse;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Calls billing with what protoc and protoc-gen-grpc-java generated from proto/, and by server reflection. judge.ts sets
 * the environment.
 */
public final class Client {
  private static final String SERVICE = "billing.v1.BillingService";
  private static final Metadata.Key<String> REQUEST_ID = key("x-request-id");

  public static void main(String[] arguments) throws Exception {
    ListValue.Builder targets = ListValue.newBuilder();
    JsonFormat.parser().merge(System.getenv("TARGETS"), targets);
    for (Value each : targets.getValuesList()) {
      Map<String, Value> target = each.getStructValue().getFieldsMap();
      String name = target.get("name").getStringValue();
      String address = target.get("address").getStringValue();
      ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
      try {
        BillingAccount account = withGeneratedCode(channel, target.get("patient").getStructValue());
        System.out.printf("ok Java calls %s with generated code%n", name);
        byReflection(channel, account);
        System.out.printf("ok Java calls %s by reflection%n", name);
      } finally {
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      }
    }
  }

  /** Returns the account after everything on it is paid. */
  private static BillingAccount withGeneratedCode(ManagedChannel channel, Struct patient) {
    BillingServiceBlockingStub anonymous = BillingServiceGrpc.newBlockingStub(channel);
    BillingServiceBlockingStub stub = anonymous.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token()));

    String patientId = patient.getFieldsOrThrow("id").getStringValue();
    String accountId = stub.createBillingAccount(CreateBillingAccountRequest.newBuilder()
        .setPatientId(patientId)
        .setName(patient.getFieldsOrThrow("name").getStringValue())
        .setEmail(patient.getFieldsOrThrow("email").getStringValue()).build()).getAccountId();
    BillingAccount account =
        stub.getBillingAccount(GetBillingAccountRequest.newBuilder().setPatientId(patientId).build()).getAccount();
    check(account.getAccountId().equals(accountId), account);
    check(account.getStatus() == BillingAccountStatus.BILLING_ACCOUNT_STATUS_ACTIVE, account);
    Money amount = Money.newBuilder().setCurrencyCode(account.getCurrencyCode()).setMinorUnits(12345).build();

    CreateChargeRequest charging = CreateChargeRequest.newBuilder()
        .setAccountId(accountId).setAmount(amount).setDescription("Consultation").setRequestId(requestId()).build();
    Charge charge = stub.createCharge(charging).getCharge();
    check(charge.getOutstanding().equals(amount), charge);
    check(stub.createCharge(charging).getCharge().getChargeId().equals(charge.getChargeId()), charge);

    Invoice invoice = stub.createInvoice(CreateInvoiceRequest.newBuilder()
        .setAccountId(accountId).setIssue(true).setRequestId(requestId()).build()).getInvoice();
    check(invoice.getTotal().equals(amount) && invoice.getStatus() == InvoiceStatus.INVOICE_STATUS_ISSUED, invoice);

    Payment payment = stub.recordPayment(RecordPaymentRequest.newBuilder()
        .setAccountId(accountId).setAmount(amount).setMethod(PaymentMethod.PAYMENT_METHOD_CARD)
        .addAllocations(PaymentAllocation.newBuilder().setInvoiceId(invoice.getInvoiceId()))
        .setRequestId(requestId()).build()).getPayment();
    check(payment.getAllocated().equals(amount), payment);
    Invoice paid = stub.getInvoice(GetInvoiceRequest.newBuilder().setInvoiceId(invoice.getInvoiceId()).build()).getInvoice();
    check(paid.getStatus() == InvoiceStatus.INVOICE_STATUS_PAID, paid);

    String year = invoice.getIssueDate().substring(0, 4);
    GetStatementResponse statement = stub.getStatement(GetStatementRequest.newBuilder()
        .setAccountId(accountId).setFromDate(year + "-01-01").setToDate(year + "-12-31").build());
    check(statement.getCharged().equals(amount) && statement.getPaid().equals(amount), statement);
    check(statement.getClosingBalance().getMinorUnits() == 0 && statement.getTransactionsCount() == 2, statement);
    var parts = stub.streamStatement(StreamStatementRequest.newBuilder()
        .setAccountId(accountId).setFromDate(year + "-01-01").setToDate(year + "-12-31").build());
    check(parts.next().getStatement().getClosingBalance().equals(statement.getClosingBalance()), statement);
    List<Transaction> streamed = new ArrayList<>();
    parts.forEachRemaining(part -> streamed.addAll(part.getTransactionsList()));
    check(streamed.equals(statement.getTransactionsList()), streamed);

    checkErrors(stub);
    checkDeadline(stub, accountId);
    checkMetadata(stub, anonymous, accountId);
    return account;
  }

  private static void checkErrors(BillingServiceBlockingStub stub) {
    StatusRuntimeException error = failure(() -> stub.createCharge(CreateChargeRequest.newBuilder()
        .setAccountId("42").setDescription("Consultation").setRequestId(requestId()).build()));
    check(error.getStatus().getCode() == Status.Code.INVALID_ARGUMENT, error);
    check(violations(error).equals(List.of("account_id", "amount")), error);
    check(details(error, ErrorInfo.class).get(0).getDomain().equals("patient-management"), error);
  }

  /** A watch has no end of its own. */
  private static void checkDeadline(BillingServiceBlockingStub stub, String accountId) {
    var watch = stub.withDeadlineAfter(2, TimeUnit.SECONDS)
        .watchAccount(WatchAccountRequest.newBuilder().setAccountId(accountId).setPosition(0).build());
    check(watch.next().getTransactionsCount() == 2, "the first message has not both transactions");
    StatusRuntimeException error = failure(watch::next);
    check(error.getStatus().getCode() == Status.Code.DEADLINE_EXCEEDED, error);
  }

  private static void checkMetadata(
      BillingServiceBlockingStub stub, BillingServiceBlockingStub anonymous, String accountId) {
    GetBillingAccountRequest request = GetBillingAccountRequest.newBuilder().setAccountId(accountId).build();
    StatusRuntimeException error = failure(() -> anonymous.getBillingAccount(request));
    check(error.getStatus().getCode() == Status.Code.UNAUTHENTICATED, error);
    Metadata sent = new Metadata();
    sent.put(REQUEST_ID, requestId());
    AtomicReference<Metadata> received = new AtomicReference<>();
    stub.withInterceptors(
        MetadataUtils.newAttachHeadersInterceptor(sent),
        MetadataUtils.newCaptureMetadataInterceptor(received, new AtomicReference<>())).getBillingAccount(request);
    check(sent.get(REQUEST_ID).equals(received.get().get(REQUEST_ID)), received);
  }

  private static void byReflection(ManagedChannel channel, BillingAccount account) throws Exception {
    ServiceDescriptor service = describe(channel);
    Message found = call(channel, service, "GetBillingAccount", "{'account_id': '%s'}", account.getAccountId());
    check(at(found, "account", "patient_id").equals(account.getPatientId()), found);
    check(at(found, "account", "balance", "minor_units").equals(0L), found);
    Message charged = call(channel, service, "CreateCharge",
        "{'account_id': '%s', 'amount': {'currency_code': '%s', 'minor_units': 1}, 'description': 'By reflection', 'request_id': '%s'}",
        account.getAccountId(), account.getCurrencyCode(), requestId());
    check(at(charged, "charge", "outstanding", "minor_units").equals(1L), charged);
    StatusRuntimeException error = failure(() -> call(channel, service, "GetBillingAccount", "{'account_id': '42'}"));
    check(violations(error).equals(List.of("account_id")), error);
  }

  /** Calls a method that this program knows only from the server's description. */
  private static Message call(ManagedChannel channel, ServiceDescriptor service, String name, String json, Object... values)
      throws Exception {
    var described = service.findMethodByName(name);
    DynamicMessage.Builder request = DynamicMessage.newBuilder(described.getInputType());
    JsonFormat.parser().merge(json.formatted(values).replace('\'', '"'), request);
    MethodDescriptor<DynamicMessage, DynamicMessage> method = MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder()
        .setType(MethodDescriptor.MethodType.UNARY)
        .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name))
        .setRequestMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(described.getInputType())))
        .setResponseMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(described.getOutputType())))
        .build();
    var withToken = io.grpc.ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(token()));
    return ClientCalls.blockingUnaryCall(withToken, method, CallOptions.DEFAULT, request.build());
  }

  /** Asks the server for its description of billing. */
  private static ServiceDescriptor describe(ManagedChannel channel) throws Exception {
    CompletableFuture<ServerReflectionResponse> answer = new CompletableFuture<>();
    StreamObserver<ServerReflectionRequest> questions = ServerReflectionGrpc.newStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token()))
        .serverReflectionInfo(new StreamObserver<>() {
          @Override public void onNext(ServerReflectionResponse response) { answer.complete(response); }
          @Override public void onError(Throwable error) { answer.completeExceptionally(error); }
          @Override public void onCompleted() {}
        });
    questions.onNext(ServerReflectionRequest.newBuilder().setFileContainingSymbol(SERVICE).build());
    List<ByteString> received = answer.get(20, TimeUnit.SECONDS).getFileDescriptorResponse().getFileDescriptorProtoList();
    questions.onCompleted();
    Map<String, FileDescriptorProto> files = new HashMap<>();
    for (ByteString bytes : received) {
      FileDescriptorProto file = FileDescriptorProto.parseFrom(bytes);
      files.put(file.getName(), file);
    }
    return link("billing/v1/billing.proto", files, new HashMap<>()).findServiceByName("BillingService");
  }

  private static FileDescriptor link(String name, Map<String, FileDescriptorProto> files, Map<String, FileDescriptor> linked)
      throws Exception {
    if (linked.containsKey(name)) return linked.get(name);
    List<FileDescriptor> imports = new ArrayList<>();
    for (String each : files.get(name).getDependencyList()) imports.add(link(each, files, linked));
    FileDescriptor file = FileDescriptor.buildFrom(files.get(name), imports.toArray(new FileDescriptor[0]));
    linked.put(name, file);
    return file;
  }

  private static Object at(Message message, String... path) {
    Object value = message;
    for (String name : path) value = ((Message) value).getField(((Message) value).getDescriptorForType().findFieldByName(name));
    return value;
  }

  /** The fields that an error calls wrong, sorted. */
  private static List<String> violations(StatusRuntimeException error) {
    return details(error, BadRequest.class).stream().flatMap(each -> each.getFieldViolationsList().stream())
        .map(BadRequest.FieldViolation::getField).sorted().toList();
  }

  private static <T extends Message> List<T> details(StatusRuntimeException error, Class<T> type) {
    List<T> found = new ArrayList<>();
    for (Any packed : StatusProto.fromThrowable(error).getDetailsList()) {
      if (!packed.is(type)) continue;
      try {
        found.add(packed.unpack(type));
      } catch (com.google.protobuf.InvalidProtocolBufferException unreadable) {
        throw new AssertionError(unreadable);
      }
    }
    return found;
  }

  private interface Call {
    Object run() throws Exception;
  }

  private static StatusRuntimeException failure(Call call) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      return error;
    } catch (Exception other) {
      throw new AssertionError(other);
    }
    throw new AssertionError("the call did not fail");
  }

  private static Metadata token() {
    Metadata headers = new Metadata();
    headers.put(key("authorization"), "Bearer " + System.getenv("TOKEN"));
    return headers;
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static String requestId() {
    return UUID.randomUUID().toString();
  }

  private static void check(boolean holds, Object found) {
    if (!holds) throw new AssertionError("unexpected: " + found);
  }
}
