// The worker's view in a real terminal, of a real worker that serves real jobs.
import { expect } from "chai";
import { EMBEDDED, type Market, MODEL, openMarket } from "../../support/market.ts";
import type { ScreenSession, ScreenSize } from "../../support/screen.ts";

const NARROW: ScreenSize = { columns: 20, rows: 18 };
const GREEN_LIGHT = "\u001b[32m●";
const CURSOR_HIDDEN = "\u001b[?25l";
const CURSOR_SHOWN = "\u001b[?25h";

describe("the worker's live view", function () {
  this.timeout(60_000);
  let market: Market;
  let open: ScreenSession | undefined;

  before(async () => {
    market = await openMarket();
  });
  afterEach(async function () {
    if (this.currentTest?.state === "failed") console.log(open?.lines().join("\n").trim());
    await open?.kill();
  });
  after(() => market.close());

  const startView = async (
    flags: string[] = [],
    options: { env?: Record<string, string>; size?: ScreenSize } = {},
  ) => {
    const screen = market.seller.startOnScreen(["worker", ...EMBEDDED, ...flags], options);
    open = screen;
    await screen.shows("your node is live");
    return screen;
  };
  const stop = async (screen: ScreenSession) => {
    screen.type("\x03");
    return await screen.ended;
  };
  const buy = (tokens: number) =>
    market.buyerJson(
      "job",
      "submit",
      "--model",
      MODEL,
      "--prompt",
      "Hello",
      "--max-tokens",
      String(tokens),
      "--wait",
    );

  it("shows light, endpoint and prices, then a job as it is served and paid, and leaves the terminal clean", async () => {
    const screen = await startView();
    expect(screen.isAlternate()).to.equal(true);
    await screen.shows(market.endpoint);
    await screen.until((lines) => lines.some((line) => /^ {2}tiny +10\.00 +40\.00$/.test(line)));
    await screen.shows("0 requests");
    const bill = await buy(200);
    await screen.shows(`${bill.chargeUsdc} paid out`);
    await screen.shows(`USDC ${bill.chargeUsdc} charged`);
    await screen.shows(`${bill.chargeUsdc} settled`);
    await screen.shows(`1 request · ${bill.promptTokens} tokens in, ${bill.completionTokens} out`);
    const short = bill.jobId.slice(0, 10);
    await screen.shows(
      `job ${short} took ${bill.promptTokens} + ${bill.completionTokens} tokens: ${bill.chargeUsdc} USDC`,
    );
    await screen.shows(`job ${short} settled`);
    await screen.until((lines) => lines.some((line) => /now 0 of \d+ running/.test(line)));
    expect(screen.written()).to.contain(GREEN_LIGHT);
    // What stands is written once, through the whole job.
    for (const lasting of ["your node is live", "USDC per million tokens", market.endpoint])
      expect(screen.written().split(lasting)).to.have.length(2);

    expect((await stop(screen)).exitCode).to.equal(0);
    expect(screen.isAlternate()).to.equal(false);
    expect(screen.lines().filter((line) => line !== "")).to.deep.equal([
      `your node has stopped: ${bill.chargeUsdc} USDC charged, ${bill.chargeUsdc} settled, ${bill.chargeUsdc} paid out`,
    ]);
    expect(screen.written().lastIndexOf(CURSOR_SHOWN)).to.be.greaterThan(
      screen.written().lastIndexOf(CURSOR_HIDDEN),
    );
  });

  it("says while it stops what it waits for, and ends when that has ended", async () => {
    const screen = await startView();
    const running = market.submit("Hello", "--max-tokens", "900", "--json");
    await screen.until((lines) => lines.some((line) => /now 1 of \d+ running/.test(line)));
    screen.type("\x03");
    await screen.shows("stopping: waiting for 1 request to end");
    await screen.shows("Ctrl-C again ends at once");
    expect((await screen.ended).exitCode).to.equal(0);
    // On a slow machine the grace may be over first: then the answer was cut, and what came of it paid for.
    await running.ended;
  });

  it("fits narrow and low terminals, and follows their size", async () => {
    const screen = await startView([], { size: NARROW });
    await screen.shows("10.00 / 40.00");
    await screen.until((lines) => lines.some((line) => line.endsWith(" paid out")));
    expect(screen.lines().length).to.equal(NARROW.rows);
    screen.resize({ columns: 100, rows: 30 });
    await screen.until((lines) => lines.some((line) => /^ {2}MODEL +IN +OUT/.test(line)));
    expect(screen.lines().filter((line) => line.includes("your node is live"))).to.have.length(1);
    screen.resize({ columns: 19, rows: 5 });
    await screen.until((lines) => lines.length === 5 && lines[0]!.includes("your node is live"));
    screen.resize({ columns: 100, rows: 30 });
    await screen.shows("Ctrl-C stops the worker");
    expect((await stop(screen)).exitCode).to.equal(0);
  });

  it("has no colour with NO_COLOR, and settles and ends when its window is closed", async () => {
    const screen = await startView([], { env: { NO_COLOR: "1" } });
    for (const colour of [GREEN_LIGHT, "\u001b[2m", "\u001b[0m"])
      expect(screen.written()).to.not.contain(colour);
    screen.close();
    expect((await screen.ended).exitCode).to.equal(0);
  });

  it("gives way to lines with --log, and in a terminal that cannot draw", async () => {
    const screen = await startView(["--log"]);
    expect(screen.written()).to.contain(`your node is live at ${market.endpoint}`);
    const bill = await buy(20);
    await screen.shows(`took ${bill.promptTokens} + ${bill.completionTokens} tokens`);
    expect((await stop(screen)).exitCode).to.equal(0);
    const dumb = await startView([], { env: { TERM: "dumb" } });
    expect((await stop(dumb)).exitCode).to.equal(0);
    for (const { written } of [screen, dumb]) expect(written()).to.not.contain(CURSOR_HIDDEN);
  });
});
