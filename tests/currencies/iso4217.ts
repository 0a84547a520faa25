/**
 * Compares our currencies with the list of ISO 4217 that PyPI's `iso4217` publishes. Exits with 1 where they differ:
 * then ISO has changed the list, or we have.
 */
import { join } from "node:path";
import { currencies } from "@pm/kit/currencies";
import { cached, type Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { installPythonProgram, missingForPythonProgram } from "@pm/stack/programs/python";

const version = "1.16.20260101";
const sha256 = "69c591b93c7d783ec8c309ebee8df1aa28f8403d44bcce518ae8db050462084b";

/** Installs the list once per version. Returns its virtual environment. @throws Error with the reason if it cannot. */
export function installCurrencyList(progress: Progress): Promise<string> {
  return cached(`iso4217-${version}`, progress, async (dir) => {
    const missing = await missingForPythonProgram("iso4217");
    if (missing.length > 0) throw new Error(missing.join(", "));
    await installPythonProgram(dir, `iso4217==${version}`, sha256);
  });
}

const script = `
import json, iso4217
print(json.dumps({each.code: each.exponent for each in iso4217.Currency if each.exponent is not None}))
`;

async function main(): Promise<void> {
  const dir = await installCurrencyList((line) => void process.stdout.write(`${line}\n`));
  const published = new Map(Object.entries(JSON.parse(await run(join(dir, "bin", "python"), ["-c", script])) as Record<string, number>));
  const codes = [...new Set([...published.keys(), ...currencies.keys()])].sort();
  const different = codes.filter((code) => published.get(code) !== currencies.get(code));
  for (const code of different) process.stdout.write(`${code}: ISO ${published.get(code)}, ours ${currencies.get(code)}\n`);
  process.stdout.write(`${codes.length - different.length} currencies agree, ${different.length} differ.\n`);
  process.exitCode = different.length === 0 ? 0 : 1;
}

if (import.meta.main) await main();
