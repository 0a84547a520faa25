/** What analytics counts, and by what. These names are stored in the roll-ups, so none of them may change. */

export const measures = {
  patients: {
    registered: "patients.registered",
    deleted: "patients.deleted",
    restored: "patients.restored",
    merged: "patients.merged",
    unmerged: "patients.unmerged",
    registeredBy: {
      sex: "patients.registered.sex",
      ageBand: "patients.registered.ageBand",
      city: "patients.registered.city",
      state: "patients.registered.state",
    },
    /** The value is a JSON array of the patient's sex, age band, city and state. */
    registeredProfile: "patients.registered.profile",
    activeBy: { sex: "patients.active.sex", city: "patients.active.city", state: "patients.active.state" },
    /** Active patients at their date of birth. The value is their sex. */
    activeByBirthDate: "patients.active.born",
    activeWithoutBirthDate: "patients.active.bornUnknown",
  },
  /** The value is the currency. Amounts are minor units. */
  billing: {
    charged: "billing.charged",
    voided: "billing.voided",
    discounted: "billing.discounted",
    credited: "billing.credited",
    writtenOff: "billing.writtenOff",
    collected: "billing.collected",
    refunded: "billing.refunded",
    invoiced: "billing.invoiced",
    /** Changes of what patients have paid ahead. */
    credit: "billing.credit",
  },
  accounts: { opened: "accounts.opened", status: "accounts.status" },
  activity: {
    signedIn: "activity.signedIn",
    failed: "activity.failed",
    failedBy: "activity.failed.reason",
    sessionsEnded: "activity.sessionEnded",
    usersDisabled: "activity.userDisabled",
  },
  consistency: {
    patientsWithoutAccount: "consistency.patientsWithoutAccount",
    accountsWithoutPatient: "consistency.accountsWithoutPatient",
  },
} as const;

/** The flows of money that reports and publications have, in this order. */
export const moneyFlows = ["charged", "voided", "discounted", "credited", "writtenOff", "collected", "refunded", "invoiced"] as const;
type MoneyFlow = (typeof moneyFlows)[number];
export const moneyFlowMeasures = moneyFlows.map((flow) => measures.billing[flow]);

/** Something for each flow of money, from its measure. */
export function eachMoneyFlow<T>(of: (measure: string) => T): Record<MoneyFlow, T> {
  return Object.fromEntries(moneyFlows.map((flow) => [flow, of(measures.billing[flow])])) as Record<MoneyFlow, T>;
}

/** The measure that says how many amounts there were of a measure of money. */
export function countOf(measure: string): string {
  return `${measure}.count`;
}

/** What registrations and active patients are broken down by. Profiles have their values in this order. */
export const dimensions = ["sex", "ageBand", "city", "state"] as const;
export type Dimension = (typeof dimensions)[number];

/** The empty text means that it is not known. */
export const sexes = ["female", "male", "other", "unknown", ""] as const;
export const ageBands = ["0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90+", ""] as const;

/** What may be known by its calendar day only: a clinic may enter a registration of long ago. */
export const datedMeasures: ReadonlySet<string> = new Set([measures.patients.registered, ...Object.values(measures.patients.registeredBy)]);

/** What changes the number of active patients, and in which direction. */
export const patientFlows = [
  { measure: measures.patients.registered, sign: 1n },
  { measure: measures.patients.deleted, sign: -1n },
  { measure: measures.patients.restored, sign: 1n },
  { measure: measures.patients.merged, sign: -1n },
  { measure: measures.patients.unmerged, sign: 1n },
] as const;

/** Open charges by their age, in full days since the charge. Their sum is what is outstanding. */
export const agingBuckets = [
  { measure: "billing.open.0-30", label: "0–30", fromDay: 0 },
  { measure: "billing.open.31-60", label: "31–60", fromDay: 31 },
  { measure: "billing.open.61-90", label: "61–90", fromDay: 61 },
  { measure: "billing.open.90+", label: "90+", fromDay: 91 },
] as const;

/** Why sign-ins failed: the values of `activity.failed.reason`. */
export const failureReasons = ["unknown", "credentials", "secondFactor", "throttled"] as const;
export type FailureReason = (typeof failureReasons)[number];
