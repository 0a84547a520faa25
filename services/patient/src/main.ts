/** The patient service: everything it is made of, in reading order. */
import { registerTrail } from "@pm/kit/auditor/rest";
import { createCursors } from "@pm/kit/cursor";
import { createRestApp } from "@pm/kit/http/rest";
import { listenHttp } from "@pm/kit/http/server";
import { databaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import { connectToAuth, startService } from "@pm/kit/service";
import { createAskBilling, createBillingAccounts } from "./billing/accounts.ts";
import { createSendLink, startLinking } from "./billing/links.ts";
import { startCleanup } from "./cleanup.ts";
import { readConfig, recordSettings } from "./config.ts";
import { createDisclosures } from "./disclosures/disclosures.ts";
import { registerDisclosures } from "./disclosures/rest.ts";
import { trailOf } from "./disclosures/store.ts";
import { openInEmergency } from "./emergencies/emergencies.ts";
import { registerEmergencies } from "./emergencies/rest.ts";
import { createErasureInAnalytics } from "./erasure/analytics-client.ts";
import { createErasureInBilling } from "./erasure/billing-client.ts";
import { createErasures } from "./erasure/erasures.ts";
import { registerErasures } from "./erasure/rest.ts";
import { createErasureWorker } from "./erasure/worker.ts";
import { createExports } from "./exports/exports.ts";
import { registerExports } from "./exports/rest.ts";
import { createImports } from "./files/import.ts";
import { registerProgress } from "./files/progress-rest.ts";
import { registerFiles } from "./files/rest.ts";
import { createTransfers } from "./files/transfers.ts";
import { createWorkList } from "./matching/duplicates.ts";
import { createMatching } from "./matching/matching.ts";
import { readModel } from "./matching/model-file.ts";
import { createDuplicates } from "./matching/newcomers.ts";
import { startPairing } from "./matching/pairing.ts";
import { registerMatching, toCandidate } from "./matching/rest.ts";
import { createMerging } from "./merging/merging.ts";
import { registerMerging } from "./merging/rest.ts";
import { createBatches } from "./patients/batch.ts";
import { registerBatches } from "./patients/batch-rest.ts";
import { createConflicts } from "./patients/conflicts.ts";
import { createFeed } from "./patients/feed.ts";
import { createHistory } from "./patients/history.ts";
import { registerHistory } from "./patients/history-rest.ts";
import { createLists } from "./patients/list.ts";
import { createPatients } from "./patients/patients.ts";
import { registerPatients } from "./patients/rest.ts";
import { startRewriting } from "./patients/rewriting.ts";
import { about } from "./patients/schemas.ts";
import { registerSearch } from "./patients/search-rest.ts";
import { createSharing } from "./patients/sharing.ts";
import { createTotals } from "./patients/totals.ts";
import { registerTotals } from "./patients/totals-rest.ts";
import { createWordCounts } from "./patients/word-frequencies-store.ts";
import { createRecordNumbers, startNumbering } from "./record-numbers/record-numbers.ts";
import { registerDocs } from "./swagger-ui.ts";
import type { Tables } from "./tables.ts";

const config = readConfig();
const parts = startService<Tables>({ service: "patient", config });
const { db, audit, relay, log, lifecycle } = parts;
const { verifier, serviceToken } = connectToAuth(parts, config);

const billing = createBillingAccounts({ db, log, ask: createAskBilling({ billingUrl: config.BILLING_URL, serviceToken }) });
startLinking({ db, send: createSendLink({ billingUrl: config.BILLING_URL, serviceToken }), log, lifecycle });
startCleanup({ db, log, lifecycle });

const now = () => new Date();
const settings = recordSettings(config);
const cursors = createCursors(config.CURSOR_KEY);
const numbering = { db, prefix: config.RECORD_NUMBER_PREFIX, start: config.RECORD_NUMBER_START };
const recordNumbers = createRecordNumbers(numbering);
startNumbering({ ...numbering, settings: databaseSettings(config), log, lifecycle });
const committed = relay.wake;
const conflicts = createConflicts({ db });
const rewriting = startRewriting({ ...parts, db });
const search = { dateOrder: config.DATE_ORDER, phoneRegion: settings.phoneRegion };
const model = readModel(config.MATCH_MODEL);
const frequencies = createWordCounts(db);
const matching = createMatching({ db, audit, model, frequencies, now, settings });
const duplicates = createDuplicates(matching, toCandidate);
startPairing({ ...parts, db, settings: databaseSettings(config), model, frequencies, isRewritten: rewriting.isDone });
const lists = createLists({ db, cursors, search, isRewritten: rewriting.isDone });
const patients = createPatients({ db, audit, billing, recordNumbers, conflicts, duplicates, committed, now, settings });
const imports = createImports({ db, audit, recordNumbers, merge: patients.merge, duplicates, committed, now, settings });
billing.startWorker(lifecycle, imports.isRunning);

const erasing = {
  ...{ db, audit, now, committed, log, retentionYears: config.RECORD_RETENTION_YEARS },
  billing: createErasureInBilling({ billingUrl: config.BILLING_URL, serviceToken }),
  analytics: createErasureInAnalytics({ analyticsUrl: config.ANALYTICS_URL, serviceToken }),
};
const step = createErasureWorker(erasing);
const { wake } = runAsLeader({ ...parts, name: "patient_erasures", pool: db.pool, pollMs: 2_000, step });

const rest = createRestApp({ ...parts, ...about, verifier });
registerDocs(rest);
registerProgress(rest, { db });
registerEmergencies(rest, { db });
const transfers = createTransfers({ db, log, lifecycle });
registerFiles(rest, { lists, imports, transfers });
registerExports(rest, { exports: createExports({ db }), transfers });
registerMatching(rest, { matching, workList: createWorkList({ db, cursors }) });
registerHistory(rest, { history: createHistory({ db, cursors }), feed: createFeed({ db, cursors }) });
registerSearch(rest, { lists, settings, cursors });
registerBatches(rest, createBatches({ db, billing, recordNumbers, conflicts, committed, now, settings }));
registerPatients(rest, {
  patients,
  lists,
  sharing: createSharing({ db }),
  openInEmergency: (call, patientId, reason) => openInEmergency(db, call, patientId, reason),
});
registerErasures(rest, createErasures({ ...erasing, wake }));
registerMerging(rest, createMerging({ db, conflicts, now, settings, committed }));
registerTotals(rest, createTotals({ db, cursors, now, clinicTimeZone: settings.clinicTimeZone }));
registerTrail(rest, { ...parts, ofPatient: (patientId) => trailOf(db, patientId) });
const others = { billing: config.BILLING_URL, analytics: config.ANALYTICS_URL };
registerDisclosures(rest, { disclosures: createDisclosures({ db, audit, cursors, others }) });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifecycle });
