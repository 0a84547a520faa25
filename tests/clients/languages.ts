/** The stock gRPC tools of three languages: how each is had, and how it makes a client from the files of proto/. */
import { chmodSync, cpSync, existsSync, globSync, mkdirSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { cacheDir, cached, type Progress } from "@pm/stack/programs/cache";
import { run } from "@pm/stack/programs/child";
import { findGo } from "@pm/stack/programs/go-programs";
import { downloadJars, javaProgram, missingForJars, requireJavac } from "@pm/stack/programs/java";
import { installPythonPackages } from "@pm/stack/programs/python";
import { GRPC_JAVA } from "@pm/stack/versions";

/** Generates and compiles a client in an empty folder. Returns the command to run it. The signal ends the tools. */
type Build = (folder: string, signal: AbortSignal) => Promise<string[]>;

export type Language = {
  name: string;
  /** Gets its tools, once per version. @throws Error with the reason if they cannot be had */
  install(progress: Progress): Promise<Build>;
};

const here = import.meta.dirname;
const proto = resolve(here, "../../proto");
/** What the client of billing is generated from: its service, and what that imports. */
const files = ["billing/v1/billing.proto", "billing/v1/events.proto", "common/v1/money.proto", "buf/validate/validate.proto"];

/** By `grpc_tools.protoc`, the protoc that a Python program installs by pip. */
const python: Language = {
  name: "Python",
  async install(progress) {
    const libraries = ["grpcio", "grpcio-reflection", "grpcio-status", "grpcio-tools"];
    const venv = await installPythonPackages(
      libraries.map((name) => `${name}==1.85.1`),
      progress,
    );
    const program = join(venv, "bin", "python");
    return async (folder, signal) => {
      const outputs = [`--python_out=${folder}`, `--grpc_python_out=${folder}`];
      await run(program, ["-m", "grpc_tools.protoc", "-I", proto, ...outputs, ...files], { signal });
      // A Python program finds the modules that are beside it.
      cpSync(join(here, "python"), folder, { recursive: true });
      return [program, join(folder, "client.py")];
    };
  },
};

/** By `buf generate`, with the plugins that go.mod names as tools. */
const go: Language = {
  name: "Go",
  async install(progress) {
    const program = await findGo();
    if (program === undefined) throw new Error('Go 1.26 or newer is missing (program "go")');
    // Go's caches make a later build quick. Modules are read-only by default, and nobody could delete the cache.
    const caches = { GOMODCACHE: join(cacheDir(), "go-modules"), GOCACHE: join(cacheDir(), "go-builds"), GOFLAGS: "-modcacherw" };
    const path = [...(program === "go" ? [] : [dirname(program)]), process.env.PATH].join(delimiter);
    const env = { ...process.env, ...caches, PATH: path, CGO_ENABLED: "0" };
    if (!existsSync(caches.GOMODCACHE)) progress("Go: downloading the modules of gRPC (once)");
    await run(program, ["mod", "download"], { env, cwd: join(here, "go") });
    return async (folder, signal) => {
      cpSync(join(here, "go"), folder, { recursive: true });
      const paths = files.flatMap((file) => ["--path", join(proto, file)]);
      await run("buf", ["generate", proto, ...paths], { env, cwd: folder, signal });
      await run(program, ["build", "-o", "client", "."], { env, cwd: folder, signal });
      return [join(folder, "client")];
    };
  },
};

/** protoc and gRPC's plugin for it, in this order. */
const executablesIn = (dir: string) => globSync(join(dir, "*.exe")).sort();
/** What the files import from Google. */
const googles = ["descriptor", "duration", "field_mask", "timestamp"].map((name) => `google/protobuf/${name}.proto`);

/** By plain `protoc`, and gRPC's plugin for it. */
const java: Language = {
  name: "Java",
  async install(progress) {
    await requireJavac();
    const { version, artifacts, platforms } = GRPC_JAVA;
    const platform = platforms[`${process.platform}-${process.arch}`];
    if (platform === undefined) throw new Error(`there is no protoc for ${process.platform}-${process.arch}`);
    const dir = await cached(`grpc-java-${version}`, progress, async (target) => {
      const missing = await missingForJars("gRPC for Java");
      if (missing.length > 0) throw new Error(missing.join(", "));
      progress("gRPC for Java: downloading it with Maven (25 MB, once)");
      const executables = GRPC_JAVA.executables.map((coordinates) => `${coordinates}:exe:${platform.classifier}`);
      await downloadJars(target, { artifacts: [...artifacts, ...executables], isTransitive: true, sha256: platform.sha256 });
      for (const executable of executablesIn(target)) chmodSync(executable, 0o755);
      // The protoc of Maven Central has not Google's files beside it.
      await run(javaProgram("jar"), ["-xf", ...globSync(join(target, "protobuf-java-[0-9]*.jar")), ...googles], { cwd: target });
    });
    const [protoc = "", plugin] = executablesIn(dir);
    const classPath = join(dir, "*");
    return async (folder, signal) => {
      const [sources, classes] = ["sources", "classes"].map((name) => join(folder, name)) as [string, string];
      mkdirSync(sources);
      const outputs = [`--plugin=protoc-gen-grpc-java=${plugin}`, `--java_out=${sources}`, `--grpc-java_out=${sources}`];
      await run(protoc, ["-I", proto, "-I", dir, ...outputs, ...files], { signal });
      const generated = globSync(join(sources, "**/*.java"));
      const options = ["-proc:none", "-nowarn", "-d", classes, "-cp", classPath];
      await run(javaProgram("javac"), [...options, ...generated, join(here, "java", "Client.java")], { signal });
      return [javaProgram("java"), "-cp", [classes, classPath].join(delimiter), "Client"];
    };
  },
};

export const languages = [python, go, java];
