// Owns how commands read this machine's earnings: from the worker's ledger, beside the worker that may be writing it.
import { existsSync } from "node:fs";
import type { Earnings } from "../provider/earnings.ts";
import type { Context } from "./context.ts";

/** What the provider's ledger says; undefined when no worker has run from this home. Throws `store-unusable`. */
export async function readOwnEarnings(context: Context): Promise<Earnings | undefined> {
  const [{ homePaths }, { openStoreToRead }, { PROVIDER_MIGRATIONS }, { readEarnings }] = await Promise.all([
    import("../runtime/home.ts"),
    import("../runtime/store.ts"),
    import("../provider/ledger-schema.ts"),
    import("../provider/earnings.ts"),
  ]);
  const { providerStore } = homePaths((await context.config()).home);
  if (!existsSync(providerStore)) return undefined;
  const store = openStoreToRead(providerStore, PROVIDER_MIGRATIONS);
  try {
    return readEarnings(store);
  } finally {
    store.close();
  }
}
