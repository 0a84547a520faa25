import { type Dashboard, here, quantile, rate } from "./dashboard.ts";
import { consumerPanels, eventPanels } from "./shared.ts";

export const events: Dashboard = {
  uid: "pm-events",
  title: "Patient management: Kafka and outbox",
  rows: [
    { title: "Outbox: from a database to Kafka", panels: eventPanels(here) },
    { title: "Consumers: from Kafka to a database", panels: consumerPanels(here) },
    {
      title: "Throughput",
      panels: [
        {
          title: "Events applied",
          unit: "cps",
          queries: [{ expr: `sum by (group, topic) (${rate(`consumer_events_total{${here}}`)})`, legend: "{{group}} {{topic}}" }],
        },
        {
          title: "Events in a transaction, mean",
          unit: "short",
          queries: [
            {
              expr: `sum by (service, batch) (${rate(`batch_size_sum{${here},batch=~"applied_events|offset_commits"}`)}) / sum by (service, batch) (${rate(`batch_size_count{${here},batch=~"applied_events|offset_commits"}`)})`,
              legend: "{{service}} {{batch}}",
            },
          ],
        },
        {
          title: "Ended sessions: time until they are refused",
          description: "Alert RevocationsSlow at one second.",
          unit: "s",
          queries: [{ expr: quantile(0.99, "service", "revocation_lag_seconds", here), legend: "{{service}}, 99th percentile" }],
        },
      ],
    },
  ],
};
