/** The chart's README: a table of its values, from the comments in values.yaml that begin with two dashes. */
import { isAlias, isMap, isScalar, type Node, type Pair, parseDocument, type YAMLMap } from "yaml";

type Row = { key: string; value: string; description: string };

/** Renders README.md from Chart.yaml and values.yaml. */
export function renderReadme(chartYaml: string, valuesYaml: string): string {
  const chart = parseDocument(chartYaml).toJS() as { name: string; description: string; kubeVersion: string };
  const document = parseDocument(valuesYaml);
  const rows = isMap(document.contents) ? rowsOf(document.contents, [], (node) => node.toJS(document)) : [];
  const lines = rows.map(({ key, value, description }) => `| \`${key}\` | \`${value}\` | ${description} |`);
  return `# ${chart.name}

${chart.description}. Kubernetes ${chart.kubeVersion.replace(/^>=([\d.]+).*$/, "$1")} or newer.

\`\`\`
helm install pms charts/${chart.name} --namespace patients
helm test pms --namespace patients --logs
\`\`\`

It needs a Postgres with a database and two roles per service, and a Kafka with a user per service; \`k8s/\` has both, with
operators and without, under the names that are the defaults here. [docs/kubernetes.md](../../docs/kubernetes.md) says how to
install, upgrade, rotate, back up and scale. \`values-production.yaml\` is a start for production.

## Values

A key that is not in this table is refused (\`values.schema.json\`). This table is generated from \`values.yaml\`:
\`UPDATE=1 npx vitest run tests/charts\`.

| key | default | meaning |
|---|---|---|
${lines.join("\n")}
`;
}

/** Only keys with a description. A key without one means the same as in the block above. */
function rowsOf(map: YAMLMap, path: string[], toJs: (node: Node) => unknown): Row[] {
  return (map.items as Pair<Node, Node | null>[]).flatMap((pair, index) => {
    const key = isScalar(pair.key) ? String(pair.key.value) : "";
    const here = [...path, key];
    // The parser gives a comment above the first key of a block to the block.
    const comment = pair.key.commentBefore ?? (index === 0 ? map.commentBefore : undefined);
    const description = /(?:^|\n) ?-- ([^\n]*)/.exec(comment ?? "")?.[1];
    const below = isMap(pair.value) ? rowsOf(pair.value, here, toJs) : [];
    if (description === undefined) return below;
    // If keys of the value are described, these descriptions say what the value is.
    const value = isMap(pair.value) && below.length > 0 ? "…" : JSON.stringify(isAlias(pair.value) ? "…" : pair.value && toJs(pair.value));
    return [{ key: here.join("."), value, description: description.replaceAll("|", "\\|") }, ...below];
  });
}
