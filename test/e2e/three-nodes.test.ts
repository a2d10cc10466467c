// Three nodes that fail, each its own way, behind one gateway: every part a process of its own, the model a real one.
import { expect } from "chai";
import { type GatewayProcess, startGatewayProcess } from "../support/gateway-process.ts";
import {
  ALLOWANCE,
  baseUnits,
  EMBEDDED,
  type Market,
  MODEL,
  openMarket,
  type Worker,
} from "../support/market.ts";
import { type ScriptedOpenAiServer, startScriptedOpenAiServer } from "../support/scripted-openai-server.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

type Seller = Awaited<ReturnType<Market["addSeller"]>>;
type Row = { node: string; dropped: string | null; lastErrors: { code: string }[] };

const WORDS = "hello world ".repeat(10);
/** Within the bytes of the text, and within what is signed ahead: only counting again finds it. */
const INFLATED_TOKENS = 80;

describe("three nodes behind a gateway", function () {
  this.timeout(90_000);
  let market: Market;
  let inflating: ScriptedOpenAiServer;
  let [dear, liar]: Seller[] = [];
  let cheap: Worker;
  let gateway: GatewayProcess;
  /** Completion tokens of the answer that two nodes made, as its client was told. */
  let madeByTwo = 0;

  before(async () => {
    inflating = await startScriptedOpenAiServer(MODEL, async (answer) => {
      await answer.say(WORDS);
      answer.finish(5, INFLATED_TOKENS);
    });
    market = await openMarket({ prices: "10:40" });
    liar = await market.addSeller({
      upstream: ["--upstream", "openai", "--upstream-url", `${inflating.url}/v1`],
      prices: "20:80",
    });
    dear = await market.addSeller({ upstream: EMBEDDED, prices: "30:120" });
    const quiet = ["--log-level", "error"];
    [cheap] = await Promise.all([
      market.startWorker(...quiet),
      liar.startWorker(...quiet),
      dear.startWorker(...quiet),
    ]);
    gateway = await startGatewayProcess(market, "--recount", `${MODEL}=${tinyModelFile()}`);
  });
  after(async () => {
    await market?.close();
    await inflating?.close();
  });

  const rows = async (): Promise<Row[]> => {
    const response = await fetch(`${gateway.url}/infernet/status`);
    return ((await response.json()) as { routes: Row[] }).routes;
  };
  const rowOf = async (node: string) => (await rows()).find((row) => row.node === node)!;
  const ask = (tokens: number) =>
    gateway.client.chat.completions
      .create({
        ...{ model: MODEL, messages: [{ role: "user", content: "Tell the world." }], max_tokens: tokens },
        ...{ stream: true, stream_options: { include_usage: true }, temperature: 0, seed: 1 },
      })
      .withResponse();

  it("goes on with the same weights elsewhere when a node is killed in mid-stream", async () => {
    const { data, response } = await ask(400);
    expect(response.headers.get("x-infernet-node")).to.equal(market.node);
    const ids = new Set<string>();
    let [text, finish] = ["", ""];
    for await (const { id, choices, usage } of data) {
      if (text === "") await cheap.kill();
      ids.add(id);
      text += choices[0]?.delta.content ?? "";
      finish ||= choices[0]?.finish_reason ?? "";
      madeByTwo ||= usage?.completion_tokens ?? 0;
    }
    expect(ids.size, "one answer").to.equal(1);
    expect(["stop", "length"]).to.include(finish);
    expect(madeByTwo).to.be.within(1, 400);
    expect((await rowOf(market.node)).lastErrors[0]!.code).to.equal("node-unreachable");
  });

  it("gives the client the answer of a node that inflates its counts, and drops it with the reason", async () => {
    const { data, response } = await ask(200);
    expect(response.headers.get("x-infernet-node")).to.equal(liar!.node);
    let text = "";
    for await (const { choices } of data) text += choices[0]?.delta.content ?? "";
    expect(text).to.equal(WORDS);
    while (!(await rowOf(liar!.node)).dropped) await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await rowOf(liar!.node)).dropped).to.match(/counts \d+ completion tokens where .* counts \d+/);
  });

  it("gives up a node that stands still, and has another one answer", async () => {
    cheap = await market.startWorker("--log-level", "error");
    // Another gateway sees at once that the node is back, and still knows of the others what the first one learned.
    gateway.child.kill("SIGTERM");
    await gateway.ended;
    gateway = await startGatewayProcess(market);
    expect((await rowOf(liar!.node)).dropped).to.be.a("string");
    for (let node = ""; node !== market.node; ) {
      const { data, response } = await ask(16);
      for await (const _chunk of data);
      node = response.headers.get("x-infernet-node")!;
      expect(node).not.to.equal(liar!.node);
      // It cools down for some seconds after its crash.
      if (node !== market.node) await new Promise((resolve) => setTimeout(resolve, 500));
    }
    cheap.child.kill("SIGSTOP");
    try {
      const { data, response } = await ask(16);
      for await (const _chunk of data);
      expect(response.headers.get("x-infernet-node")).to.equal(dear!.node);
      expect((await rowOf(market.node)).lastErrors[0]!.code).to.equal("upstream-timeout");
    } finally {
      cheap.child.kill("SIGCONT");
    }
  });

  it("has paid for no token twice: wallet, credit, earnings and open deposits are what there was", async () => {
    gateway.child.kill("SIGTERM");
    await gateway.ended;
    const { total, requests } = await market.buyerJson("spending");
    const [killed, rest] = requests;
    expect(killed.node).to.equal(market.node);
    expect(rest.node).to.equal(dear!.node);
    expect(killed.completionTokens + rest.completionTokens).to.be.at.most(400 + 128);
    // The second node was paid for what was missing: what had arrived of the first one is in the sum alone.
    expect(rest.completionTokens).to.be.below(madeByTwo);
    expect(total.requests).to.equal(requests.length);
    const { sessions } = await market.buyerJson("session", "list");
    const locked = sessions.reduce(
      (sum: bigint, { lockedUsdc }: { lockedUsdc: string }) => sum + baseUnits(lockedUsdc),
      0n,
    );
    const { requester, payee } = await market.holdings();
    expect(requester + payee + locked).to.equal(ALLOWANCE);
  });
});
