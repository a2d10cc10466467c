// Owns the relay that its tests share: a market, and a node's desk that is new for each test and can be started again.
import { expect } from "chai";
import type { InfernetError } from "../../protocol/errors.ts";
import type { Offer } from "../../protocol/offer.ts";
import type { RelayRule } from "../../provider/config.ts";
import {
  type ChainSide,
  type Market,
  openChainSide,
  type ProviderChanges,
  startMarket,
  stopMarket,
} from "./chain-fixture.ts";
import { createFolder } from "./ledger-fixture.ts";
import {
  DEPOSIT,
  gaslessSigner,
  type OpeningChanges,
  openRelay,
  type RelayDesk,
  signOpening,
} from "./relay-fixture.ts";

/** Registers the hooks of a relay's tests and gives what they work with; market, side and desk are the current test's. */
export function useRelay() {
  const folder = createFolder();
  let market: Market;
  let side: ChainSide;
  let desk: RelayDesk;
  let base: string;
  let run = 0;

  before(async () => {
    market = await startMarket();
  });
  beforeEach(async () => {
    base = await market.local.snapshot();
    run += 1;
    await open();
  });
  afterEach(async () => {
    await side.close();
    await market.local.revert(base);
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const open = async (
    changes: ProviderChanges = {},
    rule: Partial<RelayRule> = {},
    terms: Partial<Offer> = {},
  ) => {
    side = openChainSide(market, `${folder.path}/${run}`, changes);
    side.clock.now = (await market.chain.getBlock("latest")).timestamp;
    desk = openRelay(market, side, rule, terms);
  };
  /** The same node again over its store; the state of the one before is abandoned. */
  const restart = async (...args: Parameters<typeof open>) => {
    await side.close();
    await open(...args);
  };
  const refusalOf = async (work: Promise<unknown>): Promise<InfernetError> => {
    const error = await work.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).to.have.property("name", "InfernetError");
    return error as InfernetError;
  };
  const nodeSpent = async (work: () => Promise<unknown>): Promise<bigint> => {
    const before = await market.chain.getNative(market.node.address);
    await work();
    return before - (await market.chain.getNative(market.node.address));
  };
  const signed = async (changes: OpeningChanges = {}) => {
    const wallet = await gaslessSigner(
      market,
      changes.from === "credit" ? { credit: DEPOSIT } : { usdc: DEPOSIT },
    );
    return { wallet, ...(await signOpening(market, desk, wallet, changes)) };
  };
  const statusOf = async (jobId: `0x${string}`) => (await market.chain.getJobState(jobId)).status;
  /** Refused with this code, at no gas, with nothing opened. */
  const refuses = async (code: string, changes: OpeningChanges): Promise<InfernetError> => {
    const { jobId, opening } = await signed(changes);
    let error: InfernetError | undefined;
    const spent = await nodeSpent(async () => {
      error = await refusalOf(desk.relay.openJob(opening));
    });
    expect(error!.code, error!.message).to.equal(code);
    expect(spent).to.equal(0n);
    expect(await statusOf(jobId)).to.equal("none");
    expect(side.relays.pending()).to.deep.equal([]);
    return error!;
  };

  return {
    get market() {
      return market;
    },
    get side() {
      return side;
    },
    get desk() {
      return desk;
    },
    ...{ open, restart, refusalOf, nodeSpent, signed, statusOf, refuses },
  };
}
