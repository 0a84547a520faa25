/** `node services/billing/src/commands/doctor.ts [--json]`: says what is wrong with the service and its ledger. */
import { join } from "node:path";
import { runDoctor } from "@pm/kit/doctor/doctor";
import { verifyLedger } from "../ledger/verification-store.ts";

await runDoctor("billing", {
  migrations: join(import.meta.dirname, "../migrations"),
  async also(pool) {
    const { holds, transactions, findings } = await verifyLedger(pool);
    if (holds) return { state: "well", says: `The ledger is proven: ${transactions.toLocaleString("en")} transactions.` };
    const broken = findings.map(({ rule, ids }) => `${rule} (${ids.slice(0, 3).join(", ")})`);
    return { state: "wrong", says: `The ledger breaks a rule: ${broken.join("; ")}.`, help: "docs/billing.md" };
  },
});
