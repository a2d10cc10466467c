// Owns how job commands open the requester: its ledger, its budget, and the wallet only where money is to move.
import type { Hex } from "../protocol/bytes.ts";
import type { Requester, RequesterDeps } from "../requester/start.ts";
import type { Context } from "./context.ts";
import { unlock, walletAddress } from "./identity.ts";

/** The requester with the wallet unlocked: it may open jobs and sign. */
export async function openRequester(context: Context): Promise<Requester> {
  // What would fail anyway fails before anybody types a passphrase.
  await walletAddress(context);
  await context.chain();
  const { signer, deriveSecret } = await unlock(context, "wallet");
  return start(context, signer, deriveSecret("requester"));
}

/** The requester for looking only, which needs no passphrase. */
export async function openRequesterToLook(context: Context): Promise<Requester> {
  const address = await walletAddress(context);
  const signDigest = () => {
    throw new Error("a command that only looks was made to sign");
  };
  const { ZERO_WORD } = await import("../protocol/bytes.ts");
  return start(context, { address, signDigest }, ZERO_WORD);
}

async function start(context: Context, wallet: RequesterDeps["wallet"], seed: Hex): Promise<Requester> {
  const [
    { readBudget },
    { startRequester },
    { REQUESTER_MIGRATIONS },
    { openStore },
    { homePaths },
    { systemClock },
  ] = await Promise.all([
    import("./budget-settings.ts"),
    import("../requester/start.ts"),
    import("../requester/ledger-rows.ts"),
    import("../runtime/store.ts"),
    import("../runtime/home.ts"),
    import("../runtime/clock.ts"),
  ]);
  const [chain, log, { home }] = await Promise.all([context.chain(), context.log("warn"), context.config()]);
  const budget = readBudget(home, context.terminal.env);
  const store = openStore(homePaths(home).requesterStore, REQUESTER_MIGRATIONS);
  context.atEnd(() => store.close());
  const requester = await startRequester({ chain, store, log, wallet, seed, clock: systemClock, budget });
  context.atEnd(() => requester.stop());
  return requester;
}
