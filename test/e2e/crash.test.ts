// A worker killed in mid-stream and started again settles exactly what it had released; nobody loses more than that.
import { expect } from "chai";
import { chargeOf } from "../../protocol/price.ts";
import type { Ended } from "../support/command-line.ts";
import {
  ALLOWANCE,
  INPUT_PRICE,
  type Market,
  OUTPUT_PRICE,
  openMarket,
  type Worker,
} from "../support/market.ts";
import { type BookedRequest, bookedRequests } from "../support/seller-book.ts";

const MAX_TOKENS = 1000;

describe("a worker that is killed in mid-stream", function () {
  this.timeout(90_000);
  let market: Market;
  let restarted: Worker;
  let atTheCrash: BookedRequest;
  let ended: Ended;
  let jobId = "";

  before(async () => {
    market = await openMarket();
    const worker = await market.startWorker("--log-level", "error");
    const sampling = ["--max-tokens", String(MAX_TOKENS), "--temperature", "0", "--seed", "1"];
    const buyer = market.submit("tell a long story of the world", ...sampling, "--wait");
    await buyer.until(({ stdout }) => stdout.length > 300);
    // A requester that stands still signs nothing, so the answer cannot end before the worker does.
    buyer.child.kill("SIGSTOP");
    await worker.kill();
    ({
      jobs: [{ jobId }],
    } = await market.buyerJson("job", "list"));
    atTheCrash = bookedRequests(market.seller.home, jobId)[0]!;
    restarted = await market.startWorker("--log-level", "error");
    buyer.child.kill("SIGCONT");
    ended = await buyer.ended;
    await restarted.event("settled", jobId);
  });
  after(() => market?.close());

  it("was in the middle of the answer", () => {
    expect(atTheCrash.status).to.equal("running");
    expect(atTheCrash.counts.completionTokens).to.be.within(1, MAX_TOKENS - 1);
  });

  it("releases nothing more once it is back, and settles exactly what was released", async () => {
    const [booked] = bookedRequests(market.seller.home, jobId);
    expect(booked).to.deep.equal({ ...atTheCrash, status: "ended" });
    const charge = chargeOf([atTheCrash.counts], { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE });
    expect(await market.view.getJobState(jobId as `0x${string}`)).to.include({
      claimed: charge,
      status: "closed",
    });
    expect(await market.holdings()).to.deep.equal({ requester: ALLOWANCE - charge, payee: charge });
  });

  it("gives the requester all that was released and a clear error, in one exit code", () => {
    expect(ended.stdout.trimEnd()).to.equal(atTheCrash.text.trimEnd());
    expect(ended.exitCode).to.equal(6);
    expect(ended.stderr).to.match(/^error: the node ended the answer before its end/m);
  });
});
