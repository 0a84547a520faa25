/** The colours of charts, for light and for dark backgrounds. */

/**
 * People with any colour vision can tell these apart, by hue or by lightness. Each has a contrast of at least 3:1 to
 * its background.
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

/** The CSS rules that make a chart dark, for the page or the file that contains it. */
export const darkRules = [...colors, ink, line]
  .flatMap(({ light, dark }) => [`[fill="${light}"]{fill:${dark}}`, `[stroke="${light}"]{stroke:${dark}}`])
  .join("");
