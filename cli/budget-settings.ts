// Owns what a requester sets itself: what a request, a job, a day and a node may cost, and how its sessions are.
import { z } from "zod";
import { parseUsdc } from "../protocol/price.ts";
import type { BudgetLimits } from "../requester/budget.ts";
import type { SessionSettings } from "../requester/sessions/session-opening.ts";
import { resolveSettings, type Source } from "../runtime/config.ts";
import { sectionSources } from "./section-sources.ts";

const amount = z.coerce.string().transform((text, refinement) => {
  try {
    return parseUsdc(text);
  } catch {
    refinement.addIssue("expected an amount of USDC, like 1.25");
    return z.NEVER;
  }
});
/** The settings of the file's `requester` section. */
export const BUDGET_SETTINGS = {
  maxUsdcPerRequest: amount,
  maxUsdcPerJob: amount,
  maxUsdcPerDay: amount,
  maxUsdcPerNode: amount,
  maxUsdcPerNewNode: amount,
  sessionUsdc: amount,
  sessionIdleMinutes: z.coerce.number().int().min(1).max(1440),
};

/** What holds when no setting says otherwise. */
const DEFAULT_BUDGET = {
  maxUsdcPerRequest: "1",
  maxUsdcPerJob: "1",
  maxUsdcPerDay: "10",
  maxUsdcPerNode: "5",
  maxUsdcPerNewNode: "0.25",
  sessionUsdc: "0.50",
  sessionIdleMinutes: 10,
};

/** INFERNET_MAX_USDC_PER_DAY and its like, else the file's `requester` section, else the defaults. */
export function readBudget(home: string, env: NodeJS.ProcessEnv): BudgetLimits {
  const settings = resolveSettings(BUDGET_SETTINGS, budgetSources(home, env));
  return {
    perRequest: settings.maxUsdcPerRequest,
    perJob: settings.maxUsdcPerJob,
    perDay: settings.maxUsdcPerDay,
    perNode: settings.maxUsdcPerNode,
    perNewNode: settings.maxUsdcPerNewNode,
  };
}

/** What a session is opened with, and how long it may be idle: from the same places. */
export function readSessionSettings(home: string, env: NodeJS.ProcessEnv): SessionSettings {
  const { sessionUsdc, sessionIdleMinutes } = resolveSettings(BUDGET_SETTINGS, budgetSources(home, env));
  return { depositUsdc: sessionUsdc, idleSeconds: sessionIdleMinutes * 60 };
}

/** Where `BUDGET_SETTINGS` come from, strongest first. Throws `bad-config` for a file that cannot be read. */
export function budgetSources(home: string, env: NodeJS.ProcessEnv): Source[] {
  return sectionSources("requester", Object.keys(BUDGET_SETTINGS), DEFAULT_BUDGET, { home, env });
}
