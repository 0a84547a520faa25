import { business } from "./business.ts";
import type { Dashboard } from "./dashboard.ts";
import { events } from "./events.ts";
import { gateway } from "./gateway.ts";
import { overview } from "./overview.ts";
import { postgres } from "./postgres.ts";
import { services } from "./services.ts";

export const dashboards: Dashboard[] = [overview, ...services, events, postgres, gateway, business];
