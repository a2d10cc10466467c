// Owns the node's green light: it is on while the node sells, and off with the reasons why it does not.
import type { Dispatcher } from "./dispatch.ts";
import type { EventHub } from "./events.ts";
import type { Offers } from "./offers.ts";

export type Hindrance = {
  /** What anybody may know. */
  code: "starting" | "stopping" | "not-registered" | "switched-off" | "chain-unreachable" | "no-model";
  /** What the node's owner is told. */
  message: string;
};

export type LightDependencies = {
  offers: Pick<Offers, "current" | "listing">;
  dispatcher: Pick<Dispatcher, "snapshot">;
  /** Why the chain cannot be followed; null while it is. */
  chainTrouble(): string | null;
  phase(): "starting" | "serving" | "stopping";
  events: EventHub;
};

export type Light = {
  /** Nothing while the light is green. */
  hindrances(): Hindrance[];
  /** Tells `lightChanged` when the light is another than when this was last called. */
  review(): void;
};

export function createLight(deps: LightDependencies): Light {
  let shown = "";
  const hindrances = () => hindrancesOf(deps);
  return {
    hindrances,
    review() {
      const reasons = hindrances().map(({ message }) => message);
      if (reasons.join("\n") === shown) return;
      shown = reasons.join("\n");
      deps.events.emit({ type: "lightChanged", live: reasons.length === 0, reasons });
    },
  };
}

function hindrancesOf({ offers, dispatcher, chainTrouble, phase }: LightDependencies): Hindrance[] {
  const found: Hindrance[] = [];
  const now = phase();
  if (now !== "serving") found.push({ code: now, message: `the node is ${now}` });
  const listing = offers.listing();
  if (!listing) found.push({ code: "not-registered", message: "the Registry does not list the node" });
  else if (!listing.active) {
    found.push({ code: "switched-off", message: "the node is switched off in the Registry" });
  }
  const trouble = chainTrouble();
  if (trouble !== null) found.push({ code: "chain-unreachable", message: trouble });
  if (offers.current().offer.models.length === 0) {
    found.push({ code: "no-model", message: withoutModels(dispatcher) });
  }
  return found;
}

function withoutModels(dispatcher: LightDependencies["dispatcher"]): string {
  const down = dispatcher.snapshot().upstreams.filter(({ state }) => state === "down");
  if (down.length === 0) return "no upstream has any of the models that the Registry lists";
  return down.map(({ name, reason }) => `${name} is down: ${reason}`).join("; ");
}
