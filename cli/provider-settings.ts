// Owns what a provider may keep in the settings: the upstreams that it sells from.
import { z } from "zod";
import { resolveSettings, type Source } from "../runtime/config.ts";
import type { Environment } from "../runtime/home.ts";
import { sectionSources } from "./section-sources.ts";
import { type NamedUpstream, parseUpstreams } from "./upstream-spec.ts";

/** The settings of the file's `provider` section: upstreams as `--upstream` takes them, with a blank between two. */
export const PROVIDER_SETTINGS = {
  upstreams: z
    .string()
    .min(1, "expected at least one upstream")
    .superRefine((text, refinement) => {
      try {
        parseUpstreams(text);
      } catch (error) {
        refinement.addIssue(error instanceof Error ? error.message : String(error));
      }
    })
    .optional(),
};

/** Where `PROVIDER_SETTINGS` come from, strongest first. Throws `bad-config` for a file that cannot be read. */
export function providerSources(home: string, env: Environment): Source[] {
  return sectionSources("provider", Object.keys(PROVIDER_SETTINGS), {}, { home, env });
}

/** INFERNET_UPSTREAMS, else the file's `provider.upstreams`, else none. */
export function readUpstreams(home: string, env: Environment): NamedUpstream[] {
  const { upstreams } = resolveSettings(PROVIDER_SETTINGS, providerSources(home, env));
  return upstreams === undefined ? [] : parseUpstreams(upstreams);
}
