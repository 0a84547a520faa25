/**
 * Writes `buf/validate/validate.proto` for the buf compiler. The npm package of protovalidate has that file only as a
 * compiled descriptor, and no registry of modules is needed for a build that runs offline: its declarations (without
 * comments) are printed back from the descriptor into a folder that git ignores.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { DescEnum, DescExtension, DescField, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { file_buf_validate_validate as file } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

function typeName(field: DescField | DescExtension): string {
  if (field.fieldKind === "map") {
    const value = field.mapKind === "scalar" ? ScalarType[field.scalar].toLowerCase() : `.${(field.message ?? field.enum)?.typeName}`;
    return `map<${ScalarType[field.mapKey].toLowerCase()}, ${value}>`;
  }
  if (field.message) return `.${field.message.typeName}`;
  if (field.enum) return `.${field.enum.typeName}`;
  return ScalarType[field.scalar ?? ScalarType.STRING].toLowerCase();
}

function printField(field: DescField | DescExtension, indent: string): string {
  const inOneof = field.kind === "field" && field.oneof !== undefined;
  const label = field.fieldKind === "list" ? "repeated " : field.fieldKind === "map" || inOneof ? "" : "optional ";
  return `${indent}${label}${typeName(field)} ${field.name} = ${field.number};\n`;
}

function printEnum(enumeration: DescEnum, indent: string): string {
  const values = enumeration.values.map((v) => `${indent}  ${v.name} = ${v.number};\n`).join("");
  return `${indent}enum ${enumeration.name} {\n${values}${indent}}\n`;
}

function printMessage(message: DescMessage, indent = ""): string {
  const inner = `${indent}  `;
  const body = [
    ...message.nestedEnums.map((e) => printEnum(e, inner)),
    ...message.nestedMessages.map((m) => printMessage(m, inner)),
    ...message.members.map((member) =>
      member.kind === "oneof"
        ? `${inner}oneof ${member.name} {\n${member.fields.map((f) => printField(f, `${inner}  `)).join("")}${inner}}\n`
        : printField(member, inner),
    ),
    ...message.proto.extensionRange.map(
      (r) => `${inner}extensions ${r.start} to ${(r.end ?? 0) > 536870911 ? "max" : (r.end ?? 0) - 1};\n`,
    ),
  ];
  return `${indent}message ${message.name} {\n${body.join("")}${indent}}\n`;
}

const extensions = file.extensions.map((e) => `extend .${e.extendee.typeName} {\n${printField(e, "  ")}}\n`);
const text = [
  `syntax = "proto2";\npackage ${file.proto.package};\n`,
  ...file.proto.dependency.map((path) => `import "${path}";\n`),
  ...extensions,
  ...file.enums.map((e) => printEnum(e, "")),
  ...file.messages.map((m) => printMessage(m)),
].join("");

const target = join(import.meta.dirname, ".dependencies", `${file.name}.proto`);
mkdirSync(dirname(target), { recursive: true });
writeFileSync(target, text);
