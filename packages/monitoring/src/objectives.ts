/**
 * What users may expect of the platform. From this list burn-rates.ts makes rules and alerts, and the overview shows
 * how much of each budget is left.
 */
import { ours } from "./selectors.ts";

export type Kind = "availability" | "latency" | "freshness";

export type Objective = {
  name: string;
  kind: Kind;
  /** Whose metrics are asked: the gateway's count what the clients got, also while a service is down. */
  service: "gateway" | "analytics";
  promise: string;
  /** The share that keeps the promise; the rest is the budget of errors. */
  target: number;
  /** PromQL: the share that broke it within a window such as `5m`, from 0 to 1. */
  badShare: (window: string) => string;
};

/** The requests of a virtual cluster of services/gateway/envoy.yaml. */
const requests = (endpoint: string, more = "") => `envoy_vhost_vcluster_upstream_rq_xx{${ours},envoy_virtual_cluster="${endpoint}"${more}}`;
const duration = (endpoint: string, part: string) =>
  `envoy_vhost_vcluster_upstream_rq_time_${part.replace("{", `{${ours},envoy_virtual_cluster="${endpoint}",`)}`;
const perSecond = (series: string, window: string) => `sum by (namespace) (rate(${series}[${window}]))`;

/** Fewer requests than one in fifty seconds count as so many, so that one that fails at night wakes nobody. */
const fewest = 0.02;

function available(endpoint: string) {
  return (window: string) => {
    const all = perSecond(requests(endpoint), window);
    return `(${perSecond(requests(endpoint, ',envoy_response_code_class="5"'), window)} or 0 * ${all}) / clamp_min(${all}, ${fewest})`;
  };
}

/** @param milliseconds a bucket of Envoy's histograms. Prometheus 3 writes the bucket 500 as 500.0. */
function answeredWithin(milliseconds: number, endpoint: string) {
  return (window: string) => {
    const all = perSecond(duration(endpoint, "count{}"), window);
    const quick = perSecond(duration(endpoint, `bucket{le=~"${milliseconds}(.0)?"}`), window);
    return `(${all} - ${quick}) / clamp_min(${all}, ${fewest})`;
  };
}

/** Seconds after which an event has to be in the numbers; burn-rates.ts records whether one is older. */
export const freshWithinSeconds = 60;
const staleTime = (window: string) => `avg_over_time(objective:is_stale{${ours}}[${window}])`;

export const objectives: Objective[] = [
  ...endpoint({ name: "create", cluster: "patients_create", of: "creates of a patient", availability: 0.999, within: 500 }),
  ...endpoint({ name: "get", cluster: "patients_get", of: "reads of a patient", availability: 0.999, within: 250 }),
  ...endpoint({ name: "log-in", cluster: "log_in", of: "log-ins", availability: 0.999, within: 1_000 }),
  {
    name: "analytics-fresh",
    kind: "freshness",
    service: "analytics",
    promise: `In 99 % of the time every event older than ${freshWithinSeconds} s is in the numbers`,
    target: 0.99,
    badShare: staleTime,
  },
];

function endpoint(of: { name: string; cluster: string; of: string; availability: number; within: number }): Objective[] {
  return [
    {
      name: `${of.name}-available`,
      kind: "availability",
      service: "gateway",
      promise: `${of.availability * 100} % of the ${of.of} get no error of ours`,
      target: of.availability,
      badShare: available(of.cluster),
    },
    {
      name: `${of.name}-quick`,
      kind: "latency",
      service: "gateway",
      promise: `99 % of the ${of.of} are answered within ${of.within} ms`,
      target: 0.99,
      badShare: answeredWithin(of.within, of.cluster),
    },
  ];
}
