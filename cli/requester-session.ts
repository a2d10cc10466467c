// Owns how job commands open the requester: its ledger, its budget, and the wallet only where money is to move.
import type { Address, Hex } from "../protocol/bytes.ts";
import type { Requester, RequesterDeps } from "../requester/start.ts";
import type { Context } from "./context.ts";
import { type Identity, unlock, unlockOrCreate, walletAddress } from "./identity.ts";

/** The requester with the wallet unlocked: it may open jobs and sign, for a smart wallet that its key owns if one is named. */
export async function openRequester(context: Context, account?: Address): Promise<Requester> {
  // What would fail anyway fails before anybody types a passphrase.
  await walletAddress(context);
  await context.chain();
  return startFor(context, await unlock(context, "wallet"), account);
}

/** The same for who may be here for the first time: makes the wallet where there is none. */
export async function openNewRequester(
  context: Context,
  account?: Address,
  sessions?: RequesterDeps["sessions"],
): Promise<{ requester: Requester; wallet: Address }> {
  await context.chain();
  const identity = await unlockOrCreate(context, "wallet");
  return { requester: await startFor(context, identity, account, sessions), wallet: identity.address };
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

function startFor(
  context: Context,
  { signer, deriveSecret }: Identity,
  account: Address | undefined,
  sessions?: RequesterDeps["sessions"],
): Promise<Requester> {
  return start(context, signer, deriveSecret("requester"), account, sessions);
}

async function start(
  context: Context,
  wallet: RequesterDeps["wallet"],
  seed: Hex,
  account?: Address,
  sessions?: RequesterDeps["sessions"],
): Promise<Requester> {
  const [
    { readBudget, readSessionSettings },
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
  const [chain, log, { home, allowPrivate }] = await Promise.all([
    context.chain(),
    context.log("warn"),
    context.config(),
  ]);
  const budget = readBudget(home, context.terminal.env);
  const store = openStore(homePaths(home).requesterStore, REQUESTER_MIGRATIONS);
  context.atEnd(() => store.close());
  const requester = await startRequester({
    ...{ chain, store, log, wallet, account, seed, clock: systemClock, budget, allowPrivate },
    sessions: { ...readSessionSettings(home, context.terminal.env), ...sessions },
  });
  context.atEnd(() => requester.stop());
  return requester;
}
