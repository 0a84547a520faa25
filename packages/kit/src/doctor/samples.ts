/** Reads what `/metrics` answers, in OpenMetrics or in Prometheus' text format. */

export type Sample = { name: string; labels: Record<string, string>; value: number };

// A label's value may contain braces, such as those of a route, and after the value may come an example.
const line = /^([a-zA-Z_]\w*)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)/;
const label = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export function readSamples(text: string): Sample[] {
  return text.split("\n").flatMap((each) => {
    const [, name, labels = "", value] = line.exec(each) ?? [];
    if (name === undefined) return [];
    const pairs = [...labels.matchAll(label)].map(([, key = "", content = ""]) => [key, content.replace(/\\(["\\])/g, "$1")]);
    return [{ name, labels: Object.fromEntries(pairs) as Record<string, string>, value: Number(value) }];
  });
}
