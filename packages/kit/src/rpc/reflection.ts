/**
 * gRPC server reflection (v1 and v1alpha), so that grpcurl and similar tools need no proto files (docs/decisions/0009).
 */
import { create, type DescFile, type DescService, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "@pm/proto/google/rpc/error_details";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
  ServerReflection as V1,
} from "@pm/proto/grpc/reflection/v1/reflection";
import {
  ServerReflection as V1alpha,
  ServerReflectionRequestSchema as V1alphaRequestSchema,
  ServerReflectionResponseSchema as V1alphaResponseSchema,
} from "@pm/proto/grpc/reflection/v1alpha/reflection";

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

export function registerReflection(router: ConnectRouter, services: DescService[]): void {
  const files = new Map<string, DescFile>();
  const fileOfSymbol = new Map<string, DescFile>();
  const add = (file: DescFile): void => {
    if (files.has(file.proto.name)) return;
    files.set(file.proto.name, file);
    for (const symbol of [...file.services, ...file.enums, ...file.messages, ...file.extensions]) addSymbol(symbol.typeName, symbol, file);
    file.dependencies.forEach(add);
  };
  const addSymbol = (name: string, symbol: DescFile["messages"][number] | { kind: string }, file: DescFile): void => {
    fileOfSymbol.set(name, file);
    if ("nestedMessages" in symbol) for (const nested of symbol.nestedMessages) addSymbol(nested.typeName, nested, file);
    if ("nestedEnums" in symbol) for (const nested of symbol.nestedEnums) fileOfSymbol.set(nested.typeName, file);
  };
  // Error details are sent as Any, so no method refers to their types.
  add(file_google_rpc_error_details);
  for (const service of [...services, V1, V1alpha]) {
    add(service.file);
    for (const method of service.methods) fileOfSymbol.set(`${service.typeName}.${method.name}`, service.file);
  }

  const notFound = (what: string): Answer => ({
    case: "errorResponse",
    value: { errorCode: Code.NotFound, errorMessage: `${what} is not known here.` },
  });
  /** The file and everything that it imports, so that one answer is enough to decode messages. */
  const describe = (file: DescFile | undefined, what: string): Answer => {
    if (!file) return notFound(what);
    const wanted = new Set<DescFile>();
    const collect = (each: DescFile): void => {
      if (wanted.has(each)) return;
      wanted.add(each);
      each.dependencies.forEach(collect);
    };
    collect(file);
    return {
      case: "fileDescriptorResponse",
      value: { fileDescriptorProto: [...wanted].map((each) => toBinary(FileDescriptorProtoSchema, each.proto)) },
    };
  };
  const answer = ({ messageRequest: question }: ServerReflectionRequest): Answer => {
    switch (question.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: [...services, V1, V1alpha].map(({ typeName }) => ({ name: typeName })) } };
      case "fileByFilename":
        return describe(files.get(question.value), question.value);
      case "fileContainingSymbol":
        return describe(fileOfSymbol.get(question.value), question.value);
      default:
        return notFound("This kind of question");
    }
  };

  const respond = (request: ServerReflectionRequest) =>
    create(ServerReflectionResponseSchema, { validHost: request.host, originalRequest: request, messageResponse: answer(request) });

  router.service(V1, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) yield respond(request);
    },
  });
  // v1alpha has the same messages on the wire under another package.
  router.service(V1alpha, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        const bytes = toBinary(V1alphaRequestSchema, request);
        yield fromBinary(
          V1alphaResponseSchema,
          toBinary(ServerReflectionResponseSchema, respond(fromBinary(ServerReflectionRequestSchema, bytes))),
        );
      }
    },
  });
}
