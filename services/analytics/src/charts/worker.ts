/**
 * Draws a chart as SVG, by ECharts. The same data gives the same bytes. The SVG has neither scripts nor style
 * attributes, so it fits into a page with a strict Content-Security-Policy. `renderer.ts` runs this file in a thread.
 */
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { formatCompact } from "./labels.ts";
import { colors, ink, line } from "./palette.ts";
import type { Chart } from "./renderer.ts";

use([BarChart, LineChart, GridComponent, LegendComponent, SVGRenderer]);

/**
 * More bars than this, of all series together, are drawn as lines: these are easier to read, and take half the time.
 */
const maxBars = 62;
const text = { color: ink.light, fontSize: 12, fontFamily: "system-ui, sans-serif" };

export function drawChart(chart: Chart): string {
  const { categories, series, horizontal = false, mirrored = false, width = 640, height = 300 } = chart;
  const categoryAxis = {
    type: "category" as const,
    data: categories,
    axisLabel: { ...text, hideOverlap: true },
    axisLine: { lineStyle: { color: ink.light } },
    axisTick: { show: false },
  };
  const valueAxis = {
    type: "value" as const,
    axisLabel: { ...text, formatter: (value: number) => formatCompact(mirrored ? Math.abs(value) : value) },
    splitLine: { lineStyle: { color: line.light } },
    minInterval: 1,
  };
  const instance = init(null, null, { renderer: "svg", ssr: true, width, height });
  instance.setOption({
    animation: false,
    legend: series.length > 1 ? { top: 0, left: 0, itemWidth: 18, itemGap: 22, textStyle: text, selectedMode: false } : { show: false },
    grid: { left: 8, right: 14, top: series.length > 1 ? 34 : 12, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    xAxis: horizontal ? valueAxis : categoryAxis,
    yAxis: horizontal ? { ...categoryAxis, inverse: true } : valueAxis,
    series: seriesOf(chart),
  });
  const svg = instance.renderToSVGString();
  instance.dispose();
  return tidy(svg, chart.title, chart.description);
}

function seriesOf({ categories, series, horizontal = false }: Chart) {
  const bars = categories.length * series.filter(({ kind }) => kind === "bar").length;
  const asLines = !horizontal && bars > maxBars;
  return series.map(({ name, values, kind, stack, color, dashed = false }) => {
    const hue = colors[color % colors.length]?.light ?? ink.light;
    return {
      name,
      type: asLines ? ("line" as const) : kind,
      // An array of numbers only. In any other list, ECharts searches every value for options of its third version.
      dimensions: ["x", "y"],
      data: Float64Array.from(values.flatMap((value, index) => (horizontal ? [value ?? Number.NaN, index] : [index, value ?? Number.NaN]))),
      color: hue,
      silent: true,
      emphasis: { disabled: true },
      ...(stack !== undefined && { stack }),
      ...(kind === "bar" && asLines && stack !== undefined && { areaStyle: { color: hue } }),
      ...(kind === "bar" && !asLines
        ? { barMaxWidth: 36 }
        : {
            showSymbol: categories.length === 1,
            symbol: "circle",
            lineStyle: { width: 2, color: hue, type: dashed ? ("dashed" as const) : ("solid" as const) },
          }),
    };
  });
}

/** Removes what differs from run to run, what scripts would use, and style attributes. Adds title and description. */
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
    // These stand once, on the root element.
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

function escapeXml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character);
}
