/**
 * Draws charts in a thread of their own, one after the other. ECharts computes for 3 to 20 ms per chart, and requests,
 * events and probes must not wait for it.
 */
import type { Lifecycle } from "@pm/kit/lifecycle";
import { watchThreads } from "@pm/kit/metrics";
import { inSpan } from "@pm/kit/telemetry/tracing";
import Tinypool from "tinypool";
import { darkRules } from "./palette.ts";

type Series = {
  name: string;
  /** null if there is nothing to draw: the count is hidden. */
  values: (number | null)[];
  kind: "bar" | "line";
  /** The bars of series with the same stack are on top of each other. */
  stack?: string;
  /** The index of a colour of the palette. */
  color: number;
  dashed?: boolean;
};

export type Chart = {
  title: string;
  /** What the chart shows, in a sentence or two, for people who do not see it. */
  description: string;
  categories: string[];
  series: Series[];
  /** Horizontal bars, for long names and for pyramids. */
  horizontal?: boolean;
  /** Negative values mean "to the left". They are written without their sign. */
  mirrored?: boolean;
  width?: number;
  height?: number;
};

export type Charts = {
  /** The chart as SVG. Its colours follow the reader's colour scheme if the page has `darkRules`. */
  draw(chart: Chart): Promise<string>;
};

// 20 MiB stay in use, and drawing leaves as much again between garbage collections: 64 MiB made these too frequent.
const resourceLimits = { maxOldGenerationSizeMb: 96 };

export function createCharts(lifecycle: Pick<Lifecycle, "onClose">): Charts {
  const filename = new URL("./worker.ts", import.meta.url);
  const pool = new Tinypool({ filename, name: "drawChart", minThreads: 1, maxThreads: 1, resourceLimits });
  lifecycle.onClose("charts", () => pool.destroy());
  let drawing = 0;
  watchThreads("charts", () => ({ size: 1, busy: Math.min(drawing, 1), waiting: Math.max(0, drawing - 1) }));
  return {
    draw: (chart) =>
      inSpan("draw chart", {}, async () => {
        drawing += 1;
        try {
          return await pool.run(chart);
        } finally {
          drawing -= 1;
        }
      }),
  };
}

/** A chart as a file of its own, with the CSS rules that a page would have. */
export function standAlone(svg: string): string {
  return svg.replace("</desc>", `</desc><style>@media (prefers-color-scheme:dark){svg{background:#14181d}${darkRules}}</style>`);
}
