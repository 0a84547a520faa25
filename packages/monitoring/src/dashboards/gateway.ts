import { type Dashboard, here, quantile, rate } from "./dashboard.ts";

const isPublic = `${here},envoy_http_conn_manager_prefix="public"`;
/** The services behind, not Envoy's own clusters. */
const upstream = `${here},envoy_cluster_name!~"admin|collector"`;

export const gateway: Dashboard = {
  uid: "pm-gateway",
  title: "Patient management: gateway",
  rows: [
    {
      title: "Clients",
      panels: [
        {
          title: "Answers by class",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (envoy_response_code_class) (${rate(`envoy_http_downstream_rq_xx{${isPublic}}`)})`,
              legend: "{{envoy_response_code_class}}xx",
            },
          ],
        },
        {
          title: "Time to answer",
          description: "Milliseconds, streams included.",
          unit: "ms",
          queries: [0.5, 0.99].map((share) => ({
            expr: quantile(share, "service", "envoy_http_downstream_rq_time", isPublic),
            legend: `${share * 100} %`,
          })),
        },
        {
          title: "Connections and requests in progress",
          unit: "short",
          queries: [
            { expr: `sum(envoy_http_downstream_cx_active{${isPublic}})`, legend: "connections" },
            { expr: `sum(envoy_http_downstream_rq_active{${isPublic}})`, legend: "requests" },
          ],
        },
      ],
    },
    {
      title: "What users wait for",
      panels: [
        {
          title: "Requests by endpoint",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (envoy_virtual_cluster, envoy_response_code_class) (${rate(`envoy_vhost_vcluster_upstream_rq_xx{${here}}`)})`,
              legend: "{{envoy_virtual_cluster}} {{envoy_response_code_class}}xx",
            },
          ],
        },
        {
          title: "Time to answer by endpoint, 99th percentile",
          description: "Objectives: create 500 ms, get 250 ms, log-in 1 s.",
          unit: "ms",
          queries: [
            {
              expr: quantile(0.99, "envoy_virtual_cluster", "envoy_vhost_vcluster_upstream_rq_time", here),
              legend: "{{envoy_virtual_cluster}}",
            },
          ],
        },
        {
          title: "Requests refused by a limit",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (envoy_local_http_ratelimit_prefix) (${rate(`envoy_http_local_rate_limit_rate_limited{${here}}`)})`,
              legend: "{{envoy_local_http_ratelimit_prefix}}",
            },
          ],
        },
      ],
    },
    {
      title: "Services behind",
      panels: [
        {
          title: "Healthy pods",
          unit: "short",
          queries: [
            { expr: `sum by (envoy_cluster_name) (envoy_cluster_membership_healthy{${upstream}})`, legend: "{{envoy_cluster_name}}" },
          ],
        },
        {
          title: "Answers of services",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (envoy_cluster_name, envoy_response_code_class) (${rate(`envoy_cluster_upstream_rq_xx{${upstream}}`)})`,
              legend: "{{envoy_cluster_name}} {{envoy_response_code_class}}xx",
            },
          ],
        },
        {
          title: "Time to answer of services, 99th percentile",
          unit: "ms",
          queries: [
            { expr: quantile(0.99, "envoy_cluster_name", "envoy_cluster_upstream_rq_time", upstream), legend: "{{envoy_cluster_name}}" },
          ],
        },
        {
          title: "Failed and repeated requests",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (envoy_cluster_name) (${rate(`envoy_cluster_upstream_cx_connect_fail{${upstream}}`)})`,
              legend: "{{envoy_cluster_name}}, no connection",
            },
            {
              expr: `sum by (envoy_cluster_name) (${rate(`envoy_cluster_upstream_rq_retry{${upstream}}`)})`,
              legend: "{{envoy_cluster_name}}, repeated",
            },
          ],
        },
        {
          title: "Requests that wait for a connection",
          unit: "short",
          queries: [
            {
              expr: `sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_pending_active{${upstream}})`,
              legend: "{{envoy_cluster_name}}",
            },
          ],
        },
        {
          title: "Envoy's memory",
          unit: "bytes",
          queries: [{ expr: `sum by (service) (envoy_server_memory_allocated{${here}})`, legend: "{{service}}" }],
        },
      ],
    },
  ],
};
