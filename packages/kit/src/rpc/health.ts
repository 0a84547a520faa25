/** grpc.health.v1: the readiness of the process, for probes and for `grpcurl`. */
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import type { Lifecycle } from "../lifecycle.ts";

export function registerHealth(router: ConnectRouter, services: DescService[], lifecycle: Lifecycle): void {
  const known = new Set(["", ...services.map((service) => service.typeName)]);
  const status = async () =>
    (await lifecycle.notReady()).length === 0 ? HealthCheckResponse_ServingStatus.SERVING : HealthCheckResponse_ServingStatus.NOT_SERVING;
  router.service(Health, {
    async check({ service }) {
      if (!known.has(service)) throw new ConnectError("There is no such service.", Code.NotFound);
      return { status: await status() };
    },
    async *watch({ service }, { signal }) {
      let last: HealthCheckResponse_ServingStatus | undefined;
      while (!signal.aborted) {
        const now = known.has(service) ? await status() : HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN;
        if (now !== last) yield { status: now };
        last = now;
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
      // A watch has no end of its own, so one that meets its deadline must not look complete.
      signal.throwIfAborted();
    },
  });
}
