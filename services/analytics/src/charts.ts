/**
 * Charts as SVG, made on the server by ECharts. The same data gives the same bytes. Nothing in them needs a script or a
 * style attribute, so a strict Content-Security-Policy can stay strict; colours change with the reader's colour scheme by
 * rules that match the light ones.
 */
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";

use([BarChart, LineChart, GridComponent, LegendComponent, SVGRenderer]);

export type Series = {
  name: string;
  /** null where there is nothing to draw: hidden, or not yet. */
  values: (number | null)[];
  kind: "bar" | "line";
  /** Series of one stack stand on each other. */
  stack?: string;
  /** Which of the colours, from 0. */
  color: number;
  dashed?: boolean;
};

export type Chart = {
  title: string;
  /** What the chart says, in a sentence or two, for those who do not see it. */
  description: string;
  categories: string[];
  series: Series[];
  /** Bars that lie: for long names, and for pyramids. */
  horizontal?: boolean;
  /** How a value on the axis is written. */
  format: (value: number) => string;
  width?: number;
  height?: number;
};

/**
 * Colours that people with any colour vision tell apart by hue or by lightness, each at least 3:1 against its background;
 * `dark` is the same colour where the background is dark.
 */
const colors = [
  { light: "#0072b2", dark: "#5ab4ea" },
  { light: "#d55e00", dark: "#f2a35c" },
  { light: "#00825f", dark: "#4fd1a5" },
  { light: "#9c3f74", dark: "#e39cc4" },
  { light: "#5f6b7a", dark: "#aeb8c4" },
  { light: "#14395b", dark: "#dcecf8" },
] as const;
const ink = { light: "#333c47", dark: "#d5dbe1" };
const line = { light: "#d4d9de", dark: "#3d4650" };

/** The rules that make a chart dark, for the page or the file that it stands in. */
export const darkRules = [...colors, ink, line]
  .flatMap(({ light, dark }) => [`[fill="${light}"]{fill:${dark}}`, `[stroke="${light}"]{stroke:${dark}}`])
  .join("");

/** With more, all series together, bars would be as thin as hairs: lines are easier to read, and a twentieth of the work and of the bytes. */
const maxBars = 124;

export function drawChart(chart: Chart): string {
  const { categories, series, horizontal = false, format, width = 640, height = 300 } = chart;
  const bars = categories.length * series.filter(({ kind }) => kind === "bar").length;
  const asLines = !horizontal && bars > maxBars;
  const text = { color: ink.light, fontSize: 12, fontFamily: "system-ui, sans-serif" };
  const named = {
    type: "category" as const,
    data: categories,
    axisLabel: { ...text, hideOverlap: true },
    axisLine: { lineStyle: { color: ink.light } },
    axisTick: { show: false },
  };
  const valued = {
    type: "value" as const,
    axisLabel: { ...text, formatter: format },
    splitLine: { lineStyle: { color: line.light } },
    minInterval: 1,
  };
  const instance = init(null, null, { renderer: "svg", ssr: true, width, height });
  instance.setOption({
    animation: false,
    legend: series.length > 1 ? { top: 0, left: 0, itemWidth: 18, itemGap: 22, textStyle: text, selectedMode: false } : { show: false },
    grid: { left: 8, right: 14, top: series.length > 1 ? 34 : 12, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    xAxis: horizontal ? valued : named,
    yAxis: horizontal ? { ...named, inverse: true } : valued,
    series: series.map(({ name, values, kind, stack, color, dashed = false }) => {
      const hue = colors[color % colors.length]?.light ?? ink.light;
      return {
        name,
        type: asLines ? ("line" as const) : kind,
        data: values.map((value) => value ?? "-"),
        color: hue,
        silent: true,
        emphasis: { disabled: true },
        ...(stack !== undefined && { stack }),
        ...(kind === "bar" && asLines && stack !== undefined && { areaStyle: { color: hue } }),
        ...(kind === "bar" && !asLines
          ? { barMaxWidth: 36 }
          : {
              symbol: categories.length === 1 ? "circle" : "none",
              lineStyle: { width: 2, color: hue, type: dashed ? ("dashed" as const) : ("solid" as const) },
            }),
      };
    }),
  });
  const svg = instance.renderToSVGString();
  instance.dispose();
  return tidy(svg, chart.title, chart.description);
}

/** A chart as a file of its own: with the rules that a page would bring. */
export function standAlone(svg: string): string {
  return svg.replace("</desc>", `</desc><style>@media (prefers-color-scheme:dark){svg{background:#14181d}${darkRules}}</style>`);
}

/** Takes out what differs from run to run, scripts' hooks and style attributes, and names the picture. */
function tidy(svg: string, title: string, description: string): string {
  const ids = new Map<string, string>();
  const slug = title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  const body = svg
    .replace(/<style[\s\S]*?<\/style>/g, "")
    .replace(/ (class|ecmeta_\w+|pointer-events|baseProfile|version|xmlns:xlink)="[^"]*"/g, "")
    .replace(/ style="([^"]*)"/g, (_, style: string) =>
      style
        .split(";")
        .map((declaration) => declaration.split(":").map((part) => part.trim()))
        .map(([name, value]) => (name && value ? ` ${name}="${value.replace(/px$/, "")}"` : ""))
        .join(""),
    )
    // Said once for the whole picture.
    .replaceAll(` font-family="system-ui, sans-serif"`, "")
    .replaceAll(` font-size="12"`, "")
    .replace(/zr\d+-[a-z]+\d+/g, (id) => {
      const known = ids.get(id) ?? `${slug}-${ids.size}`;
      ids.set(id, known);
      return known;
    })
    .replace(/\n+/g, "\n");
  const names = `<title id="${slug}-title">${escapeXml(title)}</title><desc id="${slug}-desc">${escapeXml(description)}</desc>`;
  return body
    .replace(
      /^<svg /,
      `<svg role="img" font-family="system-ui, sans-serif" font-size="12" aria-labelledby="${slug}-title" aria-describedby="${slug}-desc" `,
    )
    .replace(/^(<svg [^>]*>)/, `$1${names}`)
    .trim();
}

export function escapeXml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character);
}
