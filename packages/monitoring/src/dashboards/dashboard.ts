/** Dashboards of Grafana as data: a title, and rows of panels, each with its queries. */
type Query = { expr: string; legend: string };

export type Panel = {
  title: string;
  /** What a person has to know to read it, such as the alert that fires. */
  description?: string;
  /** Grafana's name of a unit, such as `s`, `reqps`, `percentunit`, `bytes` or `short`. */
  unit: string;
  queries: Query[];
  /** One number per series in place of a curve. */
  isNumber?: true;
};

export type Dashboard = { uid: string; title: string; rows: { title: string; panels: Panel[] }[] };

/** The namespace and the data source that the reader chose. Outside of Kubernetes, series have no namespace. */
export const here = 'namespace=~"$namespace"';
export const rate = (series: string) => `rate(${series}[$__rate_interval])`;

/** The quantile of a histogram, such as `quantile(0.99, "service", "outbox_lag_seconds", here)`. */
export const quantile = (share: number, by: string, histogram: string, labels: string) =>
  `histogram_quantile(${share}, sum by (${by}, le) (${rate(`${histogram}_bucket{${labels}}`)}))`;

/** A variable of Grafana. */
const datasource = { type: "prometheus", uid: `\${datasource}` };
const [columns, height] = [24, 8];
/** Three panels stand side by side, or fewer that are wider. */
const widthOf = (panels: unknown[]) => columns / Math.min(3, panels.length);

/** The JSON that Grafana's provisioning reads. */
export function renderDashboard({ uid, title, rows }: Dashboard): string {
  let y = 0;
  let id = 0;
  const panels = rows.flatMap((row) => {
    const width = widthOf(row.panels);
    const header = { id: ++id, type: "row", title: row.title, collapsed: false, gridPos: { h: 1, w: columns, x: 0, y }, panels: [] };
    const below = row.panels.map((panel, index) => {
      const place = { x: (index * width) % columns, y: y + 1 + Math.floor((index * width) / columns) * height };
      return renderPanel(panel, ++id, { h: height, w: width, ...place });
    });
    y += 1 + Math.ceil((row.panels.length * width) / columns) * height;
    return [header, ...below];
  });
  const dashboard = {
    ...{ uid, title, tags: ["patient-management"], schemaVersion: 39, version: 1, editable: true },
    ...{ time: { from: "now-3h", to: "now" }, refresh: "30s" },
    links: [
      {
        type: "dashboards",
        title: "Patient management",
        tags: ["patient-management"],
        asDropdown: true,
        keepTime: true,
        includeVars: true,
      },
    ],
    templating: { list: [{ name: "datasource", type: "datasource", query: "prometheus", label: "Data source" }, namespaces] },
    panels,
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

const namespaces = {
  ...{ name: "namespace", type: "query", label: "Namespace", datasource, refresh: 2, sort: 1 },
  query: "label_values(http_server_request_duration_seconds_count, namespace)",
  ...{ includeAll: true, allValue: ".*", current: { text: "All", value: "$__all" } },
};

function renderPanel({ title, description = "", unit, queries, isNumber }: Panel, id: number, gridPos: object) {
  const targets = queries.map(({ expr, legend }, index) => ({
    ...{
      refId: String.fromCharCode(65 + index),
      datasource,
      expr,
      legendFormat: legend,
      exemplar: expr.includes("_duration_seconds_bucket"),
    },
  }));
  const common = { id, title, description, gridPos, datasource, targets };
  if (isNumber)
    return {
      ...{ ...common, type: "stat" },
      fieldConfig: { defaults: { unit }, overrides: [] },
      options: { reduceOptions: { calcs: ["lastNotNull"] }, colorMode: "none", textMode: "value_and_name" },
    };
  return {
    ...{ ...common, type: "timeseries" },
    fieldConfig: { defaults: { unit, min: 0, custom: { fillOpacity: 8, showPoints: "never" } }, overrides: [] },
    options: { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } },
  };
}
