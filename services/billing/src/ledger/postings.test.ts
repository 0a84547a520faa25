import fc from "fast-check";
import { expect, test } from "vitest";
import { type Book, creditOf, openOf, taxOf } from "./book.ts";
import { byCharge, type Command, maxMinorUnits, type Posting, post } from "./postings.ts";
import type { Target } from "./split.ts";

function emptyBook(): Book {
  return {
    account: {
      id: "account",
      status: "ACTIVE",
      currency: "EUR",
      transactionCount: 0n,
      receivable: 0n,
      credit: 0n,
      revenue: 0n,
      cash: 0n,
      badDebt: 0n,
      taxPayable: 0n,
    },
    charges: new Map(),
    payments: new Map(),
    allocations: [],
  };
}

const charge = (chargeId: string, amount: bigint, taxRate = 0): Command => ({ kind: "charge", amount, taxRate, currency: "EUR", chargeId });
const payment = (paymentId: string, amount: bigint, targets: Target[] = []): Command => ({
  kind: "payment",
  amount,
  currency: "EUR",
  paymentId,
  targets,
});
const reallocation = (paymentId: string, ...targets: Target[]): Command => ({ kind: "reallocation", paymentId, targets });
const refund = (paymentId: string, amount?: bigint): Command => ({ kind: "refund", paymentId, amount, currency: undefined });
const voided = (chargeId: string): Command => ({ kind: "void", chargeId });
const discount = (...targets: Target[]): Command => ({ kind: "discount", targets });
const creditNote = (...targets: Target[]): Command => ({ kind: "credit_note", targets });
const writeOff = (...targets: Target[]): Command => ({ kind: "write_off", targets });
const balances = ({ account: { receivable, credit, revenue, cash } }: Book) => ({ receivable, credit, revenue, cash });

test("a payment settles the oldest charges first, and what is left over is credit", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, charge("b", 50n));
  expect(post(book, payment("p", 120n)).allocations).toEqual([
    { paymentId: "p", chargeId: "a", amount: 100n },
    { paymentId: "p", chargeId: "b", amount: 20n },
  ]);
  post(book, payment("q", 40n));
  expect(balances(book)).toEqual({ receivable: 0n, credit: 10n, revenue: 150n, cash: 160n });
});

test("credit settles the next charge, the oldest payment first", () => {
  const book = emptyBook();
  post(book, payment("p", 30n));
  post(book, payment("q", 30n));
  const posting = post(book, charge("a", 40n));
  expect(posting.allocations).toEqual([
    { paymentId: "p", chargeId: "a", amount: 30n },
    { paymentId: "q", chargeId: "a", amount: 10n },
  ]);
  expect(posting.entries).toEqual([
    { ledgerAccount: "CREDIT", amount: 40n },
    { ledgerAccount: "REVENUE", amount: -40n },
  ]);
});

test("a refund takes credit first and opens the newest charges next", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, charge("b", 100n));
  post(book, payment("p", 230n));
  const posting = post(book, refund("p", 150n));
  expect(byCharge(posting.allocations)).toEqual([
    { chargeId: "b", amount: -100n },
    { chargeId: "a", amount: -20n },
  ]);
  expect(balances(book)).toEqual({ receivable: 120n, credit: 0n, revenue: 200n, cash: 80n });
});

test("what another payment can settle stays settled after a refund", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, payment("p", 100n));
  post(book, payment("q", 70n));
  expect(byCharge(post(book, refund("p")).allocations)).toEqual([{ chargeId: "a", amount: -30n }]);
  expect(balances(book)).toEqual({ receivable: 30n, credit: 0n, revenue: 100n, cash: 70n });
});

test("what had settled a voided charge settles other charges", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, charge("b", 30n));
  post(book, payment("p", 100n));
  const posting = post(book, voided("a"));
  expect(byCharge(posting.allocations)).toEqual([
    { chargeId: "a", amount: -100n },
    { chargeId: "b", amount: 30n },
  ]);
  expect(balances(book)).toEqual({ receivable: 0n, credit: 70n, revenue: 30n, cash: 100n });
});

test("a payment settles what its caller names first, and the oldest charges with the rest", () => {
  const book = emptyBook();
  for (const id of ["a", "b", "c"]) post(book, charge(id, 100n));
  for (const id of ["b", "c"]) Object.assign(book.charges.get(id) ?? {}, { invoiceId: "i" });
  const posting = post(
    book,
    payment("p", 230n, [
      { invoiceId: "i", amount: 150n },
      { chargeId: "c", amount: 10n },
    ]),
  );
  expect(byCharge(posting.allocations)).toEqual([
    { chargeId: "b", amount: 100n },
    { chargeId: "c", amount: 60n },
    { chargeId: "a", amount: 70n },
  ]);
  // Without an amount, a target takes what is open and what is left.
  expect(byCharge(post(book, payment("q", 50n, [{ invoiceId: "i" }])).allocations)).toEqual([
    { chargeId: "c", amount: 40n },
    { chargeId: "a", amount: 10n },
  ]);
  expect(balances(book)).toEqual({ receivable: 20n, credit: 0n, revenue: 300n, cash: 280n });
});

test("a reallocation moves what a payment settles, and leaves the balance and the entries as they are", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, charge("b", 100n));
  post(book, payment("p", 120n));
  const posting = post(book, reallocation("p", { chargeId: "b" }));
  expect(posting).toMatchObject({ type: "REALLOCATION", amount: 0n, balance: 80n, entries: [] });
  expect(byCharge(posting.allocations)).toEqual([
    { chargeId: "b", amount: 80n },
    { chargeId: "a", amount: -80n },
  ]);
  // The credit of another payment settles what is open again.
  post(book, payment("q", 90n));
  expect(byCharge(post(book, reallocation("q", { chargeId: "a", amount: 5n })).allocations)).toEqual([]);
  expect(balances(book)).toEqual({ receivable: 0n, credit: 10n, revenue: 200n, cash: 210n });
});

test("a credit note takes off what is open first, and what was paid settles other charges or becomes credit", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, charge("b", 50n));
  post(book, payment("p", 70n));
  const posting = post(book, creditNote({ chargeId: "a", amount: 80n }));
  expect(posting).toMatchObject({ type: "CREDIT_NOTE", amount: -80n, reductions: [{ chargeId: "a", amount: 80n, tax: 0n }] });
  expect(posting.entries).toEqual([
    { ledgerAccount: "RECEIVABLE", amount: -80n },
    { ledgerAccount: "REVENUE", amount: 80n },
  ]);
  expect(byCharge(posting.allocations)).toEqual([
    { chargeId: "a", amount: -50n },
    { chargeId: "b", amount: 50n },
  ]);
  post(book, creditNote({ chargeId: "a" }, { chargeId: "b" }));
  expect(balances(book)).toEqual({ receivable: 0n, credit: 70n, revenue: 0n, cash: 70n });
});

test("a write-off turns what is open into bad debt, and a discounted charge is voided with what is left of it", () => {
  const book = emptyBook();
  post(book, charge("a", 100n));
  post(book, payment("p", 30n));
  const posting = post(book, writeOff({ chargeId: "a" }));
  expect(posting.entries).toEqual([
    { ledgerAccount: "RECEIVABLE", amount: -70n },
    { ledgerAccount: "BAD_DEBT", amount: 70n },
  ]);
  expect(book.account.badDebt).toBe(70n);
  post(book, charge("b", 40n));
  post(book, discount({ chargeId: "b", amount: 15n }));
  expect(post(book, voided("b")).amount).toBe(-25n);
  expect(balances(book)).toEqual({ receivable: 0n, credit: 0n, revenue: 100n, cash: 30n });
});

test("a charge with tax credits the tax payable, and what takes off its revenue takes off the tax of the rest exactly", () => {
  const book = emptyBook();
  expect(post(book, charge("a", 11_900n, 1_900)).entries).toEqual([
    { ledgerAccount: "RECEIVABLE", amount: 11_900n },
    { ledgerAccount: "REVENUE", amount: -10_000n },
    { ledgerAccount: "TAX_PAYABLE", amount: -1_900n },
  ]);
  // A third of 19.00 is 6.333, and so is the next one; the last part takes what is left.
  const third = { chargeId: "a", amount: 3_967n };
  const taken = [post(book, discount(third)), post(book, creditNote(third)), post(book, creditNote({ chargeId: "a" }))];
  expect(taken.map(({ reductions }) => reductions[0]?.tax)).toEqual([633n, 634n, 633n]);
  expect(taken[0]?.entries).toEqual([
    { ledgerAccount: "RECEIVABLE", amount: -3_967n },
    { ledgerAccount: "REVENUE", amount: 3_334n },
    { ledgerAccount: "TAX_PAYABLE", amount: 633n },
  ]);
  expect(book.account).toMatchObject({ receivable: 0n, revenue: 0n, taxPayable: 0n });
});

test("a write-off leaves the tax payable, and a void takes off the tax that a discount has left", () => {
  const book = emptyBook();
  post(book, charge("a", 11_900n, 1_900));
  expect(post(book, writeOff({ chargeId: "a" })).entries).toEqual([
    { ledgerAccount: "RECEIVABLE", amount: -11_900n },
    { ledgerAccount: "BAD_DEBT", amount: 11_900n },
  ]);
  post(book, charge("b", 10_700n, 700));
  post(book, discount({ chargeId: "b", amount: 1_070n }));
  expect(post(book, voided("b")).entries).toEqual([
    { ledgerAccount: "RECEIVABLE", amount: -9_630n },
    { ledgerAccount: "REVENUE", amount: 9_000n },
    { ledgerAccount: "TAX_PAYABLE", amount: 630n },
  ]);
  expect(book.account).toMatchObject({ receivable: 0n, revenue: 10_000n, badDebt: 11_900n, taxPayable: 1_900n });
});

test.each([
  ["more than is left of a payment is not refunded", [payment("p", 10n), refund("p", 11n)], "REFUND_EXCEEDS_PAYMENT"],
  ["nothing is refunded twice", [payment("p", 10n), refund("p"), refund("p")], "REFUND_EXCEEDS_PAYMENT"],
  ["a charge is voided once", [charge("a", 10n), voided("a"), voided("a")], "CHARGE_VOIDED"],
  ["no balance exceeds 2^53", [charge("a", maxMinorUnits), charge("b", 1n)], "BALANCE_LIMIT"],
  [
    "a payment does not settle more of a charge than is open",
    [charge("a", 10n), payment("p", 30n, [{ chargeId: "a", amount: 11n }])],
    "AMOUNT_EXCEEDS_CHARGE",
  ],
  [
    "what two targets settle together is no more than is open",
    [
      charge("a", 10n),
      payment("p", 30n, [
        { chargeId: "a", amount: 6n },
        { chargeId: "a", amount: 5n },
      ]),
    ],
    "AMOUNT_EXCEEDS_CHARGE",
  ],
  [
    "a charge that is paid takes no payment",
    [charge("a", 10n), payment("p", 10n), payment("q", 1n, [{ chargeId: "a" }])],
    "AMOUNT_EXCEEDS_CHARGE",
  ],
  ["a payment does not settle the charge of another account", [payment("q", 1n, [{ chargeId: "x" }])], "CHARGE_NOT_FOUND"],
  [
    "a payment does not move to an invoice of another account",
    [payment("q", 1n), reallocation("q", { invoiceId: "x" })],
    "INVOICE_NOT_FOUND",
  ],
  [
    "what was paid is not written off",
    [charge("a", 10n), payment("p", 9n), writeOff({ chargeId: "a", amount: 2n })],
    "AMOUNT_EXCEEDS_CHARGE",
  ],
  ["no more is credited than was charged", [charge("a", 10n), creditNote({ chargeId: "a", amount: 11n })], "AMOUNT_EXCEEDS_CHARGE"],
  ["nothing is credited twice", [charge("a", 10n), creditNote({ chargeId: "a" }), creditNote({ chargeId: "a" })], "AMOUNT_EXCEEDS_CHARGE"],
  ["a voided charge is not discounted", [charge("a", 10n), voided("a"), discount({ chargeId: "a" })], "AMOUNT_EXCEEDS_CHARGE"],
  ["a charge that was written off is not voided", [charge("a", 10n), writeOff({ chargeId: "a" }), voided("a")], "CHARGE_WRITTEN_OFF"],
  ["a charge in another currency is refused", [{ ...charge("a", 1n), currency: "USD" } as Command], "CURRENCY_MISMATCH"],
])("%s", (_, commands, reason) => {
  const book = emptyBook();
  for (const command of commands.slice(0, -1)) post(book, command);
  const before = structuredClone(book);
  expect(() => post(book, commands.at(-1) as Command)).toThrow(expect.objectContaining({ options: expect.objectContaining({ reason }) }));
  expect(book).toEqual(before);
});

test("a suspended account takes payments and no charges, a closed one nothing", () => {
  const book = emptyBook();
  post(book, charge("a", 10n));
  book.account.status = "SUSPENDED";
  expect(() => post(book, charge("b", 10n))).toThrow("suspended");
  post(book, payment("p", 10n));
  book.account.status = "CLOSED";
  for (const command of [charge("b", 1n), payment("q", 1n), reallocation("p", { chargeId: "a" }), refund("p"), voided("a")])
    expect(() => post(book, command)).toThrow("closed");
});

/** Commands that name charges and payments by their number, so that a random one is usually meaningful. */
const small = fc.bigInt(1n, 200n);
const amounts = fc.oneof({ arbitrary: small, weight: 4 }, { arbitrary: fc.bigInt(1n, maxMinorUnits / 4n), weight: 1 });
const split = fc.array(fc.record({ charge: fc.nat(20), amount: fc.option(amounts, { nil: undefined }) }), { maxLength: 3 });
const cuts = fc.array(fc.record({ charge: fc.nat(20), amount: fc.option(fc.bigInt(1n, 60n), { nil: undefined, freq: 5 }) }), {
  minLength: 1,
  maxLength: 3,
});
const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("charge" as const), amount: amounts, taxRate: fc.constantFrom(0, 0, 1, 700, 725, 1_900, 10_000) }),
    fc.record({ kind: fc.constant("payment" as const), amount: amounts, to: split }),
    fc.record({ kind: fc.constant("reallocation" as const), target: fc.nat(20), to: split }),
    fc.record({ kind: fc.constantFrom("discount" as const, "credit_note" as const, "write_off" as const), to: cuts }),
    fc.record({ kind: fc.constant("refund" as const), target: fc.nat(20), amount: fc.option(amounts, { nil: undefined }) }),
    fc.record({ kind: fc.constant("void" as const), target: fc.nat(20) }),
  ),
  { maxLength: 60, size: "max" },
);

test("whatever happens: the books balance, nothing is settled or refunded beyond its amount, credit never waits beside open charges", () => {
  fc.assert(
    fc.property(steps, (list) => {
      const book = emptyBook();
      const charges: string[] = [];
      const payments: string[] = [];
      const postings: Posting[] = [];
      /** What was posted of the tax of each rate. */
      const taxes = new Map<number, bigint>();
      for (const step of list) {
        const id = String(charges.length + payments.length);
        const target = step.kind === "void" ? charges : payments;
        if ("target" in step && target.length === 0) continue;
        const named = "target" in step ? (target[step.target % target.length] as string) : id;
        const command = commandOf(step, id, named, charges);
        const before = structuredClone(book);
        try {
          const posting = post(book, command);
          postings.push(posting);
          addTaxes(taxes, book, command, posting);
          if (step.kind === "charge") charges.push(id);
          if (step.kind === "payment") payments.push(id);
        } catch {
          expect(book).toEqual(before);
        }
        check(book, postings);
        for (const rate of new Set([...book.charges.values()].map(({ taxRate }) => taxRate)))
          expect(sum([...book.charges.values()].filter(({ taxRate }) => taxRate === rate).map(taxOf))).toBe(taxes.get(rate) ?? 0n);
      }
    }),
    { numRuns: 300 },
  );
});

type Step = (typeof steps extends fc.Arbitrary<infer List extends unknown[]> ? List : never)[number];

function commandOf(step: Step, id: string, named: string, charges: string[]): Command {
  const targetsOf = (to: { charge: number; amount: bigint | undefined }[]): Target[] =>
    charges.length === 0
      ? []
      : to.map((part) => ({ chargeId: charges[part.charge % charges.length] as string, ...(part.amount && { amount: part.amount }) }));
  if (step.kind === "charge") return charge(id, step.amount, step.taxRate);
  if (step.kind === "payment") return payment(id, step.amount, targetsOf(step.to));
  if (step.kind === "discount" || step.kind === "credit_note" || step.kind === "write_off")
    return { kind: step.kind, targets: targetsOf(step.to) };
  if (step.kind === "reallocation") return reallocation(named, ...targetsOf(step.to));
  if (step.kind === "refund") return refund(named, step.amount);
  return voided(named);
}

const sum = (amounts: bigint[]) => amounts.reduce((total, amount) => total + amount, 0n);

function addTaxes(taxes: Map<number, bigint>, book: Book, command: Command, { entries, reductions }: Posting): void {
  const add = (chargeId: string, tax: bigint) => {
    const rate = book.charges.get(chargeId)?.taxRate ?? 0;
    taxes.set(rate, (taxes.get(rate) ?? 0n) + tax);
  };
  const posted = -sum(entries.filter(({ ledgerAccount }) => ledgerAccount === "TAX_PAYABLE").map(({ amount }) => amount));
  if ("chargeId" in command) add(command.chargeId, posted);
  else expect(posted).toBe(-sum(reductions.map(({ tax }) => tax)));
  for (const { chargeId, tax } of reductions) add(chargeId, -tax);
}

function check(book: Book, postings: Posting[]): void {
  const { account } = book;
  const booked = (name: string) =>
    sum(postings.flatMap((posting) => posting.entries.filter((entry) => entry.ledgerAccount === name).map((entry) => entry.amount)));
  for (const posting of postings.slice(-1)) expect(sum(posting.entries.map((entry) => entry.amount))).toBe(0n);
  expect([account.receivable, -account.credit, -account.revenue, account.cash, account.badDebt, -account.taxPayable]).toEqual(
    ["RECEIVABLE", "CREDIT", "REVENUE", "CASH", "BAD_DEBT", "TAX_PAYABLE"].map(booked),
  );
  expect(account.revenue >= 0n && account.taxPayable >= 0n).toBe(true);
  expect(postings.at(-1)?.balance ?? 0n).toBe(account.receivable - account.credit);
  expect(sum(postings.map((posting) => posting.amount))).toBe(account.receivable - account.credit);
  expect(sum([...book.charges.values()].map(openOf))).toBe(account.receivable);
  expect(sum([...book.payments.values()].map(creditOf))).toBe(account.credit);
  expect(account.receivable === 0n || account.credit === 0n).toBe(true);
  for (const each of book.charges.values()) {
    const taken = each.settled + each.reduced + each.writtenOff;
    expect(each.settled >= 0n && each.reduced >= 0n && each.writtenOff >= 0n && taken <= each.amount).toBe(true);
    expect(each.isVoid && (each.settled > 0n || each.writtenOff > 0n)).toBe(false);
    expect(sum(book.allocations.filter((allocation) => allocation.chargeId === each.id).map((allocation) => allocation.amount))).toBe(
      each.settled,
    );
  }
  for (const each of book.payments.values()) expect(creditOf(each) >= 0n && each.allocated >= 0n && each.refunded >= 0n).toBe(true);
}
