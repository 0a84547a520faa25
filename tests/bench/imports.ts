/** Imports of files of 5,000 patients into a small table. */
import { randomUUID } from "node:crypto";
import { personAt } from "../seed/people.ts";
import type { Rows } from "./context.ts";
import { residentMiB } from "./processes.ts";

const linesPerFile = 5_000;
const files = 80;

export const rows: Rows = async ({ platform, processes, baselines, http }) => {
  const run = randomUUID().slice(0, 8);
  const bodies: string[] = [];
  let imported = 0;
  let residentBefore = Number.NaN;
  const resident = () => residentMiB(processes).patient ?? Number.NaN;

  const makeFile = (file: number): string =>
    Array.from({ length: linesPerFile }, (_, index) => {
      const number = file * linesPerFile + index;
      return `${JSON.stringify({ ...personAt(number, 1_000_000).record, email: `${run}.${number}@example.com` })}\n`;
    }).join("");

  /** Imports one file. The events and accounts of its people follow, and their cost is part of the row. */
  async function importFile(): Promise<void> {
    const body = bodies.shift();
    if (body === undefined) throw new Error("there are no more files");
    const answer = await http(platform.services.patient.url, "POST", "/patients:import", { body });
    const { created } = JSON.parse(answer) as { created: number };
    if (created !== linesPerFile) throw new Error(`${created} of ${linesPerFile} lines were imported`);
    imported += created;
  }

  return [
    {
      name: `import patients, ${linesPerFile} in a file`,
      concurrency: 1,
      things: linesPerFile,
      seconds: 20,
      async prepare() {
        // Made before the row, so that making them is not measured.
        for (let file = 0; file < files; file++) bodies.push(makeFile(file));
        await importFile();
        residentBefore = resident();
      },
      request: importFile,
      after() {
        const [first, last] = [residentBefore, resident()].map((mib) => mib.toFixed(0));
        process.stdout.write(`patient-service held ${first} MiB after the first file and ${last} after ${imported} patients\n`);
        return [];
      },
      baseline: baselines.copy,
      aims: { minRate: 0.05 },
    },
  ];
};
