/** What FHIR costs beside our own API: the same work by both, in turns. */
import type { Rows } from "./context.ts";
import type { Work } from "./measure.ts";

export const rows: Rows = async ({ platform, http }) => {
  const gateway = platform.gatewayUrl;
  const ids: string[] = [];
  const fill = async () => {
    for (let count = ids.length; count < 50; count++) {
      const body = {
        ...{ firstName: "Bench", lastName: `FHIR ${count}`, email: `bench-fhir-${Date.now()}-${count}@example.com` },
        ...{ dateOfBirth: "1985-12-10", phoneNumber: "+12175550123", sex: "female" },
        address: { street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
      };
      ids.push(JSON.parse(await http(gateway, "POST", "/patients", { body, status: 201 })).id);
    }
  };
  const work = (name: string, pathOf: (iteration: number) => string): Work => ({
    name,
    prepare: fill,
    request: (_, iteration) => http(gateway, "GET", pathOf(iteration)),
  });
  const one = (iteration: number) => ids[iteration % ids.length];
  return [
    {
      ...work("FHIR read, gateway", (iteration) => `/fhir/R4/Patient/${one(iteration)}`),
      baseline: work("get patient", (iteration) => `/patients/${one(iteration)}`),
      aims: { maxCpu: 2 },
    },
    {
      ...work("FHIR search for 50, gateway", () => "/fhir/R4/Patient?_count=50"),
      baseline: work("list 50 patients", () => "/patients?limit=50"),
      aims: { maxCpu: 1.4 },
    },
  ];
};
