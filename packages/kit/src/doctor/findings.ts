/** What the doctor says, and how its program ends. */

export type Finding = {
  /** `unseen`: it could not be looked at, so nothing is known of it. */
  state: "well" | "wrong" | "unseen";
  /** What was looked at: `patient`, `Kafka`, `database of patient`. */
  part: string;
  /** One or two sentences for an operator, without personal data. */
  says: string;
  /** The document of this repository that says what to do. */
  help?: string;
};

export const runbook = (name: string): string => `docs/runbooks/${name}.md`;

/** 1 if something is wrong, else 2 if something could not be looked at, else 0. */
export function exitCodeOf(findings: Finding[]): number {
  if (findings.some(({ state }) => state === "wrong")) return 1;
  return findings.some(({ state }) => state === "unseen") ? 2 : 0;
}

const order: Finding["state"][] = ["wrong", "unseen", "well"];

/** The findings as text, the worst first. What several services found together (a broker that is away) is said once. */
export function printFindings(findings: Finding[]): string {
  const lines = order.flatMap((state) => findings.filter((finding) => finding.state === state).map(printFinding));
  return `${[...new Set(lines)].join("\n")}\n`;
}

const printFinding = ({ state, part, says, help }: Finding): string =>
  `${state.padEnd(7)} ${part}: ${says}${help === undefined ? "" : `\n${" ".repeat(8)}Read ${help}.`}`;

const units = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
] as const;

/** `12 minutes`, `3 days`: rounded to the largest unit that fits. */
export function duration(seconds: number): string {
  const [unit, length] = units.find(([, size]) => seconds >= size) ?? ["second", 1];
  const count = Math.round(seconds / length);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** The code of a failure, such as ECONNREFUSED, or what it says. */
export function reasonOf(error: unknown): string {
  const { code, message, cause } = error as { code?: unknown; message?: unknown; cause?: unknown };
  return typeof code === "string" && code !== "" ? code : cause instanceof Error ? reasonOf(cause) : String(message);
}
