/** Exports: every patient that a caller may see and asked for, streamed in little memory, as fast as it is read. */
import type { Call } from "../caller.ts";
import type { Filters, Lists, PatientPage } from "../patients/list.ts";

const pageSize = 1_000;

/**
 * Pages of an export, in the order of creation. Each is a query of its own, so a slow reader holds no connection and no
 * snapshot: what changes during the export is seen as it is when its page is read, and nothing is left out or doubled.
 */
export async function* exportPages(lists: Lists, call: Call, filters: Filters): AsyncGenerator<PatientPage> {
  let cursor: string | undefined;
  do {
    const page = await lists.page(call, { ...filters, limit: pageSize, sort: "createdAt", cursor }, "exported");
    yield page;
    cursor = page.nextCursor;
  } while (cursor !== undefined);
}
