/**
 * What a program outside calls the platform with: the services that people and API clients may call, their messages,
 * and the details of errors. Nothing is generated here.
 */
export * from "@pm/proto/billing/v1/billing";
// Answers have it, and it stands among the events.
export type { Allocation } from "@pm/proto/billing/v1/events";
export { AllocationSchema } from "@pm/proto/billing/v1/events";
export type { Money } from "@pm/proto/common/v1/money";
export { MoneySchema } from "@pm/proto/common/v1/money";
export * from "@pm/proto/google/rpc/error_details";
