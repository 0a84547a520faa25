/** Generates the reference in docs/billing.md from the comments of the proto files, for docs.int.test.ts. */
import { execFileSync } from "node:child_process";
import { fromBinary, isFieldSet } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";

const messageType = 4;
const enumType = 5;
const serviceType = 6;
const member = 2;

/** Renders a proto file as Markdown: methods, messages and enums with comments, and used messages of its package. */
export function renderReference(path: string): string {
  const bytes = execFileSync("buf", ["build", "--as-file-descriptor-set", "-o", "-"], { maxBuffer: 64 * 1024 * 1024 });
  const files = fromBinary(FileDescriptorSetSchema, bytes).file;
  const file = files.find((each) => each.name === path);
  if (!file) throw new Error(`${path} is not in the proto tree`);
  const used = new Set(file.messageType.flatMap((message) => message.field.map((field) => field.typeName)));
  const messages = [file, ...files.filter((each) => each !== file)].flatMap((each) =>
    each.messageType
      .map((message, index) => ({ message, index, commentAt: comments(each) }))
      .filter(({ message }) => each === file || (used.has(`.${file.package}.${message.name}`) && each.package === file.package)),
  );
  const shown = new Set([...messages.map(({ message }) => message.name), ...file.enumType.map(({ name }) => name)]);
  const commentAt = comments(file);
  const methods = file.service.flatMap((service, index) =>
    service.method.map((method, position) => {
      const stream = method.serverStreaming ? "stream " : "";
      const comment = commentAt([serviceType, index, member, position]);
      return `| \`${method.name}\` | [${nameOf(method.inputType)}](#${anchor(method.inputType)}) → ${stream}[${nameOf(method.outputType)}](#${anchor(method.outputType)}) | ${comment} |`;
    }),
  );
  return [
    "### Methods",
    ["| method | messages | what it does |", "|---|---|---|", ...methods].join("\n"),
    "### Messages",
    ...messages.map(({ message, index, commentAt: comment }) => renderMessage(message, index, comment, shown)),
    "### Enums",
    ...file.enumType.map((enumeration, index) => renderEnum(enumeration, index, commentAt)),
  ].join("\n\n");
}

type CommentAt = (path: number[]) => string;

function comments(file: FileDescriptorProto): CommentAt {
  const byPath = new Map((file.sourceCodeInfo?.location ?? []).map((location) => [location.path.join(), location.leadingComments]));
  return (path) =>
    (byPath.get(path.join()) ?? "")
      .trim()
      .replace(/\s*\n\s*/g, " ")
      .replaceAll("|", "\\|");
}

function renderMessage(message: DescriptorProto, index: number, commentAt: CommentAt, linked: Set<string>): string {
  const rows = message.field.map((field, position) => {
    const repeated = field.label === FieldDescriptorProto_Label.REPEATED ? "repeated " : "";
    // Not a comparison with undefined: a field that is not set reads as 0.
    const isInOneof = isFieldSet(field, FieldDescriptorProtoSchema.field.oneofIndex) && !field.proto3Optional;
    const oneof = isInOneof ? ` (one of \`${message.oneofDecl[field.oneofIndex]?.name}\`)` : "";
    const type = field.typeName ? nameOf(field.typeName) : FieldDescriptorProto_Type[field.type].toLowerCase();
    const shown = field.typeName && linked.has(type) ? `[${type}](#${anchor(field.typeName)})` : type;
    return `| \`${field.name}\` | ${repeated}${shown} | ${commentAt([messageType, index, member, position])}${oneof} |`;
  });
  const table = ["| field | type | meaning |", "|---|---|---|", ...rows].join("\n");
  return `#### ${message.name}\n\n${commentAt([messageType, index])}\n\n${table}`;
}

function renderEnum(enumeration: EnumDescriptorProto, index: number, commentAt: CommentAt): string {
  const rows = enumeration.value.map((value, position) => `| \`${value.name}\` | ${commentAt([enumType, index, member, position])} |`);
  return `#### ${enumeration.name}\n\n${commentAt([enumType, index])}\n\n${["| value | meaning |", "|---|---|", ...rows].join("\n")}`;
}

function nameOf(typeName: string): string {
  return typeName.split(".").at(-1) ?? typeName;
}

function anchor(typeName: string): string {
  return nameOf(typeName).toLowerCase();
}
