// Calls billing with what protoc-gen-go and protoc-gen-go-grpc generated from proto/, and by server reflection. judge.ts
// sets the environment.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	billing "clinic.example/client/gen/billing/v1"
	common "clinic.example/client/gen/common/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const service = "billing.v1.BillingService"

type target struct {
	Name    string
	Address string
	Patient struct{ ID, Name, Email string }
}

func main() {
	var targets []target
	must(json.Unmarshal([]byte(os.Getenv("TARGETS")), &targets))
	for _, target := range targets {
		connection := have(grpc.NewClient(target.Address, grpc.WithTransportCredentials(insecure.NewCredentials())))
		account := withGeneratedCode(connection, target)
		fmt.Printf("ok Go calls %s with generated code\n", target.Name)
		byReflection(connection, account)
		fmt.Printf("ok Go calls %s by reflection\n", target.Name)
		must(connection.Close())
	}
}

// Returns the account after everything on it is paid.
func withGeneratedCode(connection *grpc.ClientConn, target target) *billing.BillingAccount {
	client := billing.NewBillingServiceClient(connection)
	ctx, cancel := withToken(20 * time.Second)
	defer cancel()

	opened := have(client.CreateBillingAccount(ctx, &billing.CreateBillingAccountRequest{
		PatientId: target.Patient.ID, Name: target.Patient.Name, Email: target.Patient.Email,
	}))
	account := have(client.GetBillingAccount(ctx, &billing.GetBillingAccountRequest{
		Key: &billing.GetBillingAccountRequest_PatientId{PatientId: target.Patient.ID},
	})).GetAccount()
	assert(account.GetAccountId() == opened.GetAccountId(), account)
	assert(account.GetStatus() == billing.BillingAccountStatus_BILLING_ACCOUNT_STATUS_ACTIVE, account)
	amount := &common.Money{CurrencyCode: account.GetCurrencyCode(), MinorUnits: 12345}

	charging := &billing.CreateChargeRequest{
		AccountId: account.GetAccountId(), Amount: amount, Description: "Consultation", RequestId: requestID(),
	}
	charge := have(client.CreateCharge(ctx, charging)).GetCharge()
	assert(proto.Equal(charge.GetOutstanding(), amount), charge)
	assert(have(client.CreateCharge(ctx, charging)).GetCharge().GetChargeId() == charge.GetChargeId(), charge)

	invoice := have(client.CreateInvoice(ctx, &billing.CreateInvoiceRequest{
		AccountId: account.GetAccountId(), Issue: true, RequestId: requestID(),
	})).GetInvoice()
	assert(proto.Equal(invoice.GetTotal(), amount), invoice)
	assert(invoice.GetStatus() == billing.InvoiceStatus_INVOICE_STATUS_ISSUED, invoice)

	payment := have(client.RecordPayment(ctx, &billing.RecordPaymentRequest{
		AccountId: account.GetAccountId(), Amount: amount, Method: billing.PaymentMethod_PAYMENT_METHOD_CARD,
		Allocations: []*billing.PaymentAllocation{
			{Target: &billing.PaymentAllocation_InvoiceId{InvoiceId: invoice.GetInvoiceId()}},
		},
		RequestId: requestID(),
	})).GetPayment()
	assert(proto.Equal(payment.GetAllocated(), amount), payment)
	paid := have(client.GetInvoice(ctx, &billing.GetInvoiceRequest{InvoiceId: invoice.GetInvoiceId()})).GetInvoice()
	assert(paid.GetStatus() == billing.InvoiceStatus_INVOICE_STATUS_PAID, paid)

	year := invoice.GetIssueDate()[:4]
	statement := have(client.GetStatement(ctx, &billing.GetStatementRequest{
		AccountId: account.GetAccountId(), FromDate: year + "-01-01", ToDate: year + "-12-31",
	}))
	assert(proto.Equal(statement.GetCharged(), amount) && proto.Equal(statement.GetPaid(), amount), statement)
	assert(statement.GetClosingBalance().GetMinorUnits() == 0 && len(statement.GetTransactions()) == 2, statement)
	stream := have(client.StreamStatement(ctx, &billing.StreamStatementRequest{
		AccountId: account.GetAccountId(), FromDate: year + "-01-01", ToDate: year + "-12-31",
	}))
	first := have(stream.Recv())
	assert(proto.Equal(first.GetStatement().GetClosingBalance(), statement.GetClosingBalance()), first)
	streamed := 0
	for part, err := stream.Recv(); err != io.EOF; part, err = stream.Recv() {
		must(err)
		streamed += len(part.GetTransactions())
	}
	assert(streamed == 2, streamed)

	checkErrors(ctx, client)
	checkDeadline(client, account.GetAccountId())
	checkMetadata(client, account.GetAccountId())
	return account
}

func checkErrors(ctx context.Context, client billing.BillingServiceClient) {
	_, err := client.CreateCharge(ctx, &billing.CreateChargeRequest{
		AccountId: "42", Description: "Consultation", RequestId: requestID(),
	})
	assert(status.Code(err) == codes.InvalidArgument, err)
	assert(slices.Equal(violations(err), []string{"account_id", "amount"}), err)
	domains := ""
	for _, detail := range status.Convert(err).Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			domains += info.GetDomain()
		}
	}
	assert(domains == "patient-management", err)
}

// A watch has no end of its own.
func checkDeadline(client billing.BillingServiceClient, accountID string) {
	ctx, cancel := withToken(2 * time.Second)
	defer cancel()
	watch := have(client.WatchAccount(ctx, &billing.WatchAccountRequest{AccountId: accountID, Position: proto.Int64(0)}))
	assert(len(have(watch.Recv()).GetTransactions()) == 2, "the first message has not both transactions")
	_, err := watch.Recv()
	assert(status.Code(err) == codes.DeadlineExceeded, err)
}

func checkMetadata(client billing.BillingServiceClient, accountID string) {
	ctx, cancel := withToken(20 * time.Second)
	defer cancel()
	request := &billing.GetBillingAccountRequest{Key: &billing.GetBillingAccountRequest_AccountId{AccountId: accountID}}
	_, err := client.GetBillingAccount(context.Background(), request)
	assert(status.Code(err) == codes.Unauthenticated, err)
	var header metadata.MD
	sent := requestID()
	have(client.GetBillingAccount(metadata.AppendToOutgoingContext(ctx, "x-request-id", sent), request, grpc.Header(&header)))
	assert(slices.Equal(header.Get("x-request-id"), []string{sent}), header)
}

func byReflection(connection *grpc.ClientConn, account *billing.BillingAccount) {
	ctx, cancel := withToken(20 * time.Second)
	defer cancel()
	methods := describe(ctx, connection).Methods()

	call := func(name string, fields string, arguments ...any) (protoreflect.Message, error) {
		method := methods.ByName(protoreflect.Name(name))
		request, response := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
		must(protojson.Unmarshal(fmt.Appendf(nil, fields, arguments...), request))
		err := connection.Invoke(ctx, "/"+service+"/"+name, request, response)
		return response, err
	}

	found := have(call("GetBillingAccount", `{"account_id": %q}`, account.GetAccountId()))
	assert(at(found, "account", "patient_id").String() == account.GetPatientId(), found)
	assert(at(found, "account", "balance", "minor_units").Int() == 0, found)
	charged := have(call("CreateCharge",
		`{"account_id": %q, "amount": {"currency_code": %q, "minor_units": 1}, "description": "By reflection", "request_id": %q}`,
		account.GetAccountId(), account.GetCurrencyCode(), requestID()))
	assert(at(charged, "charge", "outstanding", "minor_units").Int() == 1, charged)
	_, err := call("GetBillingAccount", `{"account_id": "42"}`)
	assert(slices.Equal(violations(err), []string{"account_id"}), err)
}

// Asks the server for its description of billing.
func describe(ctx context.Context, connection *grpc.ClientConn) protoreflect.ServiceDescriptor {
	stream := have(reflection.NewServerReflectionClient(connection).ServerReflectionInfo(ctx))
	must(stream.Send(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	}))
	answer := have(stream.Recv())
	set := &descriptorpb.FileDescriptorSet{}
	for _, bytes := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		must(proto.Unmarshal(bytes, file))
		set.File = append(set.File, file)
	}
	must(stream.CloseSend())
	var files *protoregistry.Files = have(protodesc.NewFiles(set))
	return have(files.FindDescriptorByName(service)).(protoreflect.ServiceDescriptor)
}

func at(message protoreflect.Message, path ...protoreflect.Name) (value protoreflect.Value) {
	for index, name := range path {
		value = message.Get(message.Descriptor().Fields().ByName(name))
		if index < len(path)-1 {
			message = value.Message()
		}
	}
	return value
}

func withToken(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+os.Getenv("TOKEN"))
	return context.WithTimeout(ctx, timeout)
}

// The fields that an error calls wrong, sorted.
func violations(err error) (fields []string) {
	for _, detail := range status.Convert(err).Details() {
		if request, is := detail.(*errdetails.BadRequest); is {
			for _, violation := range request.GetFieldViolations() {
				fields = append(fields, violation.GetField())
			}
		}
	}
	slices.Sort(fields)
	return fields
}

func requestID() string {
	bytes := make([]byte, 16)
	rand.Read(bytes)
	bytes[6], bytes[8] = bytes[6]&0x0f|0x40, bytes[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", bytes[:4], bytes[4:6], bytes[6:8], bytes[8:10], bytes[10:])
}

func have[T any](value T, err error) T {
	must(err)
	return value
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func assert(holds bool, found any) {
	if !holds {
		panic(fmt.Sprint("unexpected: ", found))
	}
}
