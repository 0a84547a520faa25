/**
 * Charts of reports. They are drawn in a thread of their own, one after the other: ECharts computes for 3 to 20 ms each, and
 * other answers, events and probes must not wait for it.
 */
import type { Lifetime } from "@pm/kit/lifetime";
import Tinypool from "tinypool";

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
  /** Negative values are only those to the left, and written without their sign. */
  mirrored?: boolean;
  width?: number;
  height?: number;
};

/**
 * Colours that people with any colour vision tell apart by hue or by lightness, each at least 3:1 against its background;
 * `dark` is the same colour where the background is dark.
 */
export const colors = [
  { light: "#0072b2", dark: "#5ab4ea" },
  { light: "#d55e00", dark: "#f2a35c" },
  { light: "#00825f", dark: "#4fd1a5" },
  { light: "#9c3f74", dark: "#e39cc4" },
  { light: "#5f6b7a", dark: "#aeb8c4" },
  { light: "#14395b", dark: "#dcecf8" },
] as const;
export const ink = { light: "#333c47", dark: "#d5dbe1" };
export const line = { light: "#d4d9de", dark: "#3d4650" };

/** The rules that make a chart dark, for the page or the file that it stands in. */
export const darkRules = [...colors, ink, line]
  .flatMap(({ light, dark }) => [`[fill="${light}"]{fill:${dark}}`, `[stroke="${light}"]{stroke:${dark}}`])
  .join("");

export type Charts = {
  /** The chart as SVG, whose colours change with the reader's colour scheme where `darkRules` are in force. */
  draw(chart: Chart): Promise<string>;
};

/** Twenty MiB stay in use, and what is drawn leaves as much behind between two collections; with 64, they came too often. */
const resourceLimits = { maxOldGenerationSizeMb: 96 };

export function createCharts(lifetime: Pick<Lifetime, "onClose">): Charts {
  const filename = new URL("./chart-worker.ts", import.meta.url);
  const pool = new Tinypool({ filename, name: "drawChart", minThreads: 1, maxThreads: 1, resourceLimits });
  lifetime.onClose("charts", () => pool.destroy());
  return { draw: (chart) => pool.run(chart) };
}

/** A chart as a file of its own: with the rules that a page would bring. */
export function standAlone(svg: string): string {
  return svg.replace("</desc>", `</desc><style>@media (prefers-color-scheme:dark){svg{background:#14181d}${darkRules}}</style>`);
}
