/**
 * Charts of reports. They are drawn in a thread of their own, one after the other: ECharts computes for 3 to 20 ms each, and
 * other answers, events and probes must not wait for it.
 */
import type { Lifecycle } from "@pm/kit/lifecycle";
import Tinypool from "tinypool";
import { darkRules } from "./palette.ts";

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

export type Charts = {
  /** The chart as SVG, whose colours change with the reader's colour scheme where `darkRules` are in force. */
  draw(chart: Chart): Promise<string>;
};

/** Twenty MiB stay in use, and what is drawn leaves as much behind between two collections; with 64, they came too often. */
const resourceLimits = { maxOldGenerationSizeMb: 96 };

export function createCharts(lifecycle: Pick<Lifecycle, "onClose">): Charts {
  const filename = new URL("./worker.ts", import.meta.url);
  const pool = new Tinypool({ filename, name: "drawChart", minThreads: 1, maxThreads: 1, resourceLimits });
  lifecycle.onClose("charts", () => pool.destroy());
  return { draw: (chart) => pool.run(chart) };
}

/** A chart as a file of its own: with the rules that a page would bring. */
export function standAlone(svg: string): string {
  return svg.replace("</desc>", `</desc><style>@media (prefers-color-scheme:dark){svg{background:#14181d}${darkRules}}</style>`);
}
