"""Calls billing with what grpcio-tools generated from proto/, and by server reflection. judge.ts sets the environment."""

import json
import os
import uuid

import grpc
from billing.v1 import billing_pb2 as billing
from billing.v1 import billing_pb2_grpc
from common.v1.money_pb2 import Money
from google.protobuf import descriptor_pool, message_factory
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

token = (("authorization", f"Bearer {os.environ['TOKEN']}"),)
TIMEOUT = 20


def request_id():
    return str(uuid.uuid4())


def failure(call):
    """The error with which a call ends."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call did not fail")


def details(error):
    """The details of an error, by their type."""
    status = rpc_status.from_call(error)
    assert status is not None and status.code == error.code().value[0], error
    found = {}
    for packed in status.details:
        for kind in (BadRequest, ErrorInfo):
            if packed.Is(kind.DESCRIPTOR):
                found[kind] = kind()
                packed.Unpack(found[kind])
    return found


def with_generated_code(channel, patient):
    """Returns the account after everything on it is paid."""
    stub = billing_pb2_grpc.BillingServiceStub(channel)

    def call(method, request):
        return method(request, metadata=token, timeout=TIMEOUT)

    opening = billing.CreateBillingAccountRequest(patient_id=patient["id"], name=patient["name"], email=patient["email"])
    account_id = call(stub.CreateBillingAccount, opening).account_id
    account = call(stub.GetBillingAccount, billing.GetBillingAccountRequest(patient_id=patient["id"])).account
    assert (account.account_id, account.status) == (account_id, billing.BILLING_ACCOUNT_STATUS_ACTIVE), account
    amount = Money(currency_code=account.currency_code, minor_units=12345)

    charging = billing.CreateChargeRequest(
        account_id=account_id, amount=amount, description="Consultation", request_id=request_id()
    )
    charge = call(stub.CreateCharge, charging).charge
    assert charge.outstanding == amount, charge
    assert call(stub.CreateCharge, charging).charge.charge_id == charge.charge_id

    invoicing = billing.CreateInvoiceRequest(account_id=account_id, issue=True, request_id=request_id())
    invoice = call(stub.CreateInvoice, invoicing).invoice
    assert (invoice.total, invoice.status) == (amount, billing.INVOICE_STATUS_ISSUED), invoice

    paying = billing.RecordPaymentRequest(
        account_id=account_id,
        amount=amount,
        method=billing.PAYMENT_METHOD_CARD,
        allocations=[billing.PaymentAllocation(invoice_id=invoice.invoice_id)],
        request_id=request_id(),
    )
    assert call(stub.RecordPayment, paying).payment.allocated == amount
    paid = call(stub.GetInvoice, billing.GetInvoiceRequest(invoice_id=invoice.invoice_id)).invoice
    assert paid.status == billing.INVOICE_STATUS_PAID, paid

    year = invoice.issue_date[:4]
    period = billing.GetStatementRequest(account_id=account_id, from_date=f"{year}-01-01", to_date=f"{year}-12-31")
    statement = call(stub.GetStatement, period)
    assert (statement.charged, statement.paid, statement.closing_balance.minor_units) == (amount, amount, 0), statement
    assert len(statement.transactions) == 2, statement
    streaming = billing.StreamStatementRequest(account_id=account_id, from_date=period.from_date, to_date=period.to_date)
    first, *parts = call(stub.StreamStatement, streaming)
    assert first.statement.closing_balance == statement.closing_balance, first
    assert [each for part in parts for each in part.transactions] == list(statement.transactions), parts

    check_errors(stub)
    check_deadline(stub, account_id)
    check_metadata(stub, account_id)
    return account


def check_errors(stub):
    wrong = billing.CreateChargeRequest(account_id="42", description="Consultation", request_id=request_id())
    error = failure(lambda: stub.CreateCharge(wrong, metadata=token, timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    found = details(error)
    assert {violation.field for violation in found[BadRequest].field_violations} == {"account_id", "amount"}, found
    assert found[ErrorInfo].domain == "patient-management", found


def check_deadline(stub, account_id):
    """A watch has no end of its own."""
    watching = billing.WatchAccountRequest(account_id=account_id, position=0)
    watch = stub.WatchAccount(watching, metadata=token, timeout=2)
    assert len(next(watch).transactions) == 2
    error = failure(lambda: next(watch))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error


def check_metadata(stub, account_id):
    request = billing.GetBillingAccountRequest(account_id=account_id)
    error = failure(lambda: stub.GetBillingAccount(request, timeout=TIMEOUT))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    sent = request_id()
    _, call = stub.GetBillingAccount.with_call(request, metadata=(*token, ("x-request-id", sent)), timeout=TIMEOUT)
    assert dict(call.initial_metadata())["x-request-id"] == sent, call.initial_metadata()


class WithToken(grpc.StreamStreamClientInterceptor):
    """Python's library for reflection takes a channel and no metadata; the gateway wants a token for everything."""

    def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        return continuation(client_call_details._replace(metadata=token), request_iterator)


def by_reflection(channel, account):
    database = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(channel, WithToken()))
    assert "billing.v1.BillingService" in database.get_services()
    service = descriptor_pool.DescriptorPool(database).FindServiceByName("billing.v1.BillingService")

    def call(name, **fields):
        method = service.methods_by_name[name]
        types = [message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type)]
        invoke = channel.unary_unary(
            f"/{service.full_name}/{name}",
            request_serializer=types[0].SerializeToString,
            response_deserializer=types[1].FromString,
        )
        return invoke(types[0](**fields), metadata=token, timeout=TIMEOUT)

    found = call("GetBillingAccount", account_id=account.account_id).account
    assert (found.patient_id, found.balance.minor_units) == (account.patient_id, 0), found
    charging = {
        "account_id": account.account_id,
        "amount": {"currency_code": account.currency_code, "minor_units": 1},
        "description": "By reflection",
        "request_id": request_id(),
    }
    assert call("CreateCharge", **charging).charge.outstanding.minor_units == 1
    error = failure(lambda: call("GetBillingAccount", account_id="42"))
    assert [violation.field for violation in details(error)[BadRequest].field_violations] == ["account_id"], error


for target in json.loads(os.environ["TARGETS"]):
    with grpc.insecure_channel(target["address"]) as channel:
        account = with_generated_code(channel, target["patient"])
        print(f"ok Python calls {target['name']} with generated code")
        by_reflection(channel, account)
        print(f"ok Python calls {target['name']} by reflection")
