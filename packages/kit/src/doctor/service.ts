/** Looks at the pods of a service by what they serve to everybody inside: health and metrics. */
import { lookup } from "node:dns/promises";
import { duration, type Finding, reasonOf, runbook } from "./findings.ts";
import { readSamples, type Sample } from "./samples.ts";

/** A value above `above` is wrong. Samples that differ in their partition only are one, the worst. */
type Rule = { metric: string; above: number; help: string; says: (sample: Sample) => string };

const count = (value: number, what: string) => (value === 1 ? `One ${what} waits` : `${value.toLocaleString("en")} ${what}s wait`);

/** An alert waits to see whether a fault lasts. The doctor looks once, so its limits are higher, or are ages. */
const rules: Rule[] = [
  {
    metric: "outbox_oldest_seconds",
    above: 60,
    help: runbook("OutboxStuck"),
    says: ({ value }) => `Events wait to be published, the oldest for ${duration(value)}.`,
  },
  {
    metric: "consumer_lag_seconds",
    above: 60,
    help: runbook("ConsumerLag"),
    says: ({ value, labels }) => `The consumer group ${labels.group} is ${duration(value)} behind in ${labels.topic}.`,
  },
  {
    metric: "consumer_lag_events",
    above: 1_000,
    help: runbook("ConsumerLag"),
    says: ({ value, labels }) => `The consumer group ${labels.group} is ${value.toLocaleString("en")} events behind in ${labels.topic}.`,
  },
  {
    metric: "consumer_dead_letters_waiting",
    above: 0,
    help: runbook("DeadLettersWaiting"),
    says: ({ value, labels }) => `${count(value, "event")} that the consumer group ${labels.group} could not apply.`,
  },
  {
    metric: "circuit_breaker_open",
    above: 0,
    help: runbook("CircuitBreakerOpen"),
    says: ({ labels }) => `It has stopped calling ${labels.target}, because calls failed.`,
  },
  {
    metric: "erasures_waiting_seconds",
    above: 3_600,
    help: runbook("ErasuresWaiting"),
    says: ({ value }) => `An erasure of a patient has waited for a service for ${duration(value)}.`,
  },
  {
    metric: "thread_pool_waiting",
    above: 50,
    help: runbook("PasswordQueueLong"),
    says: ({ value, labels }) => `${count(value, "task")} for a thread of the pool ${labels.pool}.`,
  },
  {
    metric: "nodejs_eventloop_lag_p99_seconds",
    above: 0.25,
    help: runbook("EventLoopBlocked"),
    says: ({ value }) => `It computes for ${value.toFixed(2)} seconds at a time, and its other requests wait meanwhile.`,
  },
  {
    metric: "reconciliation_findings",
    above: 0,
    help: runbook("ReconciliationFindings"),
    says: ({ value, labels }) => `The last comparison with other services has findings: ${value} (${labels.kind}).`,
  },
];

/** Rules of a service as a whole, by the smallest value of its pods: one of them compares for all. */
const rulesOfAll: Rule[] = [
  {
    metric: "reconciliation_overdue_seconds",
    above: 7_200,
    help: runbook("ReconciliationOverdue"),
    says: ({ value }) => `A comparison with other services has been overdue for ${duration(value)}.`,
  },
];

/** What the metrics of all pods that answered say together. */
export function judgeTogether(part: string, pods: Sample[][]): Finding[] {
  const smallest = rulesOfAll.flatMap(({ metric }) => {
    const found = pods.flat().filter(({ name }) => name === metric);
    return found.sort((a, b) => a.value - b.value).slice(0, 1);
  });
  return judgeBy(rulesOfAll, part, smallest);
}

/** What the metrics of one pod say is wrong. */
export const judge = (part: string, samples: Sample[]): Finding[] => judgeBy(rules, part, samples);

function judgeBy(by: Rule[], part: string, samples: Sample[]): Finding[] {
  return by.flatMap(({ metric, above, help, says }) => {
    const found = samples.filter(({ name, value }) => name === metric && value > above);
    const alike = Map.groupBy(found, ({ labels: { partition: _, ...labels } }) => JSON.stringify(labels));
    return [...alike.values()].map((series) => {
      const worst = series.reduce((a, b) => (b.value > a.value ? b : a));
      return { state: "wrong" as const, part, says: says(worst), help };
    });
  });
}

/** The addresses of a service: one for each pod behind a headless Service. A pod that is not ready has none. */
async function addressesOf(url: string): Promise<string[]> {
  const { protocol, hostname, port } = new URL(url);
  const addresses = await lookup(hostname, { all: true });
  return addresses.map(({ address, family }) => `${protocol}//${family === 6 ? `[${address}]` : address}:${port}`);
}

const ask = (url: string) => fetch(url, { signal: AbortSignal.timeout(5_000) });

/** @param url of the service inside: `http://patient-headless:4000` */
export async function lookAtService(service: string, url: string): Promise<Finding[]> {
  try {
    const pods = await Promise.all((await addressesOf(url)).map((pod) => lookAtPod(service, pod)));
    const ofAll = pods.map(({ samples }) => samples);
    return [...pods.flatMap(({ found }) => found), ...judgeTogether(service, ofAll)];
  } catch (error) {
    const says = `No pod is ready: ${new URL(url).hostname} has no address (${reasonOf(error)}).`;
    return [{ state: "wrong", part: service, says, help: runbook("ServiceDown") }];
  }
}

async function lookAtPod(service: string, url: string): Promise<{ found: Finding[]; samples: Sample[] }> {
  const wrong = (says: string, name: string): Finding[] => [{ state: "wrong", part: service, says, help: runbook(name) }];
  try {
    const [health, metrics] = await Promise.all([ask(`${url}/health/ready`), ask(`${url}/metrics`)]);
    const { missing = [] } = (await health.json()) as { missing?: string[] };
    const samples = readSamples(await metrics.text());
    const found = judge(service, samples);
    const version = samples.find(({ name }) => name === "nodejs_version_info")?.labels.version;
    if (health.status !== 200)
      found.unshift(...wrong(`It runs and is not ready: it waits for ${missing.join(" and ")}.`, "ReplicasMissing"));
    if (version !== process.version)
      found.push(...wrong(`It runs on Node ${version}, and this release on ${process.version}: start it again.`, "ReplicasMissing"));
    if (found.length === 0)
      found.push({ state: "well", part: service, says: `It is ready at ${url}, and keeps up. It runs on Node ${version}.` });
    return { found, samples };
  } catch (error) {
    return { found: wrong(`It does not answer at ${url} (${reasonOf(error)}).`, "ServiceDown"), samples: [] };
  }
}

/** Whether the gateway answers, and reaches auth for the keys by which it verifies tokens. */
export async function lookAtGateway(url: string): Promise<Finding> {
  try {
    const { status } = await ask(`${url}/.well-known/jwks.json`);
    if (status === 200) return { state: "well", part: "gateway", says: `It answers at ${url}, and has auth's keys.` };
    return {
      state: "wrong",
      part: "gateway",
      says: `It answers ${status} when it is asked for auth's keys.`,
      help: runbook("GatewayErrors"),
    };
  } catch (error) {
    return { state: "wrong", part: "gateway", says: `It does not answer at ${url} (${reasonOf(error)}).`, help: runbook("ServiceDown") };
  }
}
