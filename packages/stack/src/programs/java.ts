/** Java's programs on this machine, and jars that Maven downloads. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MAVEN_PLUGIN } from "../versions.ts";
import { digestOf } from "./cache.ts";
import { hasProgram, run } from "./child.ts";

/** The program of the JDK at JAVA_HOME; if that is not set, the one on the path. */
export function javaProgram(name: "java" | "javac" | "jar"): string {
  const home = process.env.JAVA_HOME;
  return home ? join(home, "bin", name) : name;
}

/** The major version of the Java to use, if there is one. On macOS, `java` may only say that there is none. */
export async function javaVersion(): Promise<number | undefined> {
  const output = await run(javaProgram("java"), ["--version"]).catch(() => "");
  const major = /\b(\d+)(\.\d+)*/.exec(output)?.[1];
  if (major !== undefined) return Number(major);
  // Java 8 does not know --version.
  return run("sh", ["-c", `"$1" -version 2>&1`, "sh", javaProgram("java")]).then(
    (text) => (/version "1\.(\d+)/.exec(text) ? 8 : undefined),
    () => undefined,
  );
}

/** @throws Error if this machine has no compiler for Java */
export async function requireJavac(): Promise<void> {
  await run(javaProgram("javac"), ["-version"]).catch((cause) => {
    throw new Error('a JDK 17 or newer is missing (program "javac"; Debian: apt install openjdk-17-jdk-headless)', { cause });
  });
}

/**
 * What this machine lacks to download jars; empty if it lacks nothing. `what` names to people what the jars are for.
 */
export async function missingForJars(what: string): Promise<string[]> {
  if (await hasProgram("mvn")) return [];
  return [`Maven (program "mvn"; Debian: apt install maven, macOS: brew install maven), once, to download ${what}`];
}

/** Maven's coordinates (`group:artifact:version[:type:classifier]`), and `digestOf` a folder with just their files. */
type Jars = { artifacts: string[]; isTransitive: boolean; sha256: string };

/**
 * Lets Maven copy jars into a folder, with all that they depend on if `isTransitive`.
 * @throws Error if they are not exactly the pinned ones
 */
export async function downloadJars(dir: string, { artifacts, isTransitive, sha256 }: Jars): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), "pm-maven-"));
  const dependencies = artifacts.map((coordinates) => {
    const values = coordinates.split(":");
    const elements = ["groupId", "artifactId", "version", "type", "classifier"].slice(0, values.length);
    return `<dependency>${elements.map((name, index) => `<${name}>${values[index]}</${name}>`).join("")}</dependency>`;
  });
  writeFileSync(
    join(work, "pom.xml"),
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>stack</groupId><artifactId>jars</artifactId><version>1</version><dependencies>${dependencies.join("")}</dependencies></project>`,
  );
  const options = ["-DincludeScope=runtime", `-DexcludeTransitive=${!isTransitive}`, `-DoutputDirectory=${dir}`];
  try {
    await run("mvn", ["-q", "-B", `${MAVEN_PLUGIN}:copy-dependencies`, ...options], { cwd: work });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const digest = digestOf(dir);
  if (digest === sha256) return;
  throw new Error(
    `the jars that Maven downloaded for ${artifacts[0]} are not the pinned ones (SHA-256 ${digest} instead of ${sha256}): check whether Maven's repository can be trusted`,
  );
}
