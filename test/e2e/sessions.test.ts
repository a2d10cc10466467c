// One deposit pays for requests of several commands; no two processes ever use the same session at the same time.
import { expect } from "chai";
import { ALLOWANCE, baseUnits, type Market, openMarket } from "../support/market.ts";

describe("sessions on the command line", function () {
  this.timeout(90_000);
  let market: Market;
  before(async () => {
    market = await openMarket({ requesterWei: 0n });
    await market.startWorker("--log-level", "error");
  });
  after(() => market?.close());

  const submit = (prompt: string) =>
    market.buyerJson(
      "job",
      "submit",
      "--session",
      "--model",
      "tiny",
      "--prompt",
      prompt,
      "--max-tokens",
      "16",
    );

  it("pay for requests of one command after the other without a gas token, and give the rest back", async () => {
    const opened = await market.buyerJson("session", "open", "--model", "tiny", "--deposit", "0.2");
    expect(opened).to.include({ state: "open", depositUsdc: "0.200000", lockedUsdc: "0.200000" });
    const bills = [await submit("one"), await submit("two"), await submit("three")];
    expect(bills.map(({ jobId }) => jobId)).to.deep.equal([opened.jobId, opened.jobId, opened.jobId]);
    const { sessions, lockedUsdc } = await market.buyerJson("session", "list");
    expect(sessions).to.have.length(1);
    expect(lockedUsdc).to.equal("0.200000");
    expect(sessions[0]).to.include({ requests: 3, active: 0, state: "open" });
    const exact = bills.reduce((sum, { cost }) => sum + BigInt(cost), 0n);
    expect(baseUnits(sessions[0].chargedUsdc)).to.equal((exact + 999_999n) / 1_000_000n);
    const closed = await market.buyerJson("session", "close");
    expect(closed.sessions).to.have.length(1);
    expect(closed.sessions[0]).to.include({ state: "closed", lockedUsdc: "0.000000", returnsAt: null });
    const charged = baseUnits(closed.sessions[0].chargedUsdc);
    expect(charged).to.equal((exact + 999_999n) / 1_000_000n);
    expect(await market.holdings()).to.deep.equal({ requester: ALLOWANCE - charged, payee: charged });
  });

  it("of processes that run at the same time are not the same", async () => {
    const bills = await Promise.all([submit("four"), submit("five")]);
    expect(new Set(bills.map(({ jobId }) => jobId)).size).to.equal(2);
    const { sessions } = await market.buyerJson("session", "close");
    expect(sessions.map(({ state }: { state: string }) => state)).to.deep.equal(["closed", "closed"]);
  });

  it("refuse what only the job of one request has, before anything is opened", async () => {
    const before = await market.buyerJson("session", "list");
    const ended = await market.buyer.run([
      ...["job", "submit", "--session", "--model", "tiny", "--prompt", "x", "--wait", "1m", "--json"],
    ]);
    expect(ended.exitCode).to.equal(2);
    expect(ended.stderr).to.contain("does not go with --session");
    expect(await market.buyerJson("session", "list")).to.deep.equal(before);
  });
});
