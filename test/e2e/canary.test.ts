// Nothing secret is ever logged: prompts, answers, salts, keys, signatures and passphrases stay out at every level.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { jobSalt } from "../../requester/budget.ts";
import { homePaths } from "../../runtime/home.ts";
import { loadKey } from "../../runtime/signers/keystore.ts";
import { deriveSecret } from "../../runtime/signers/secp256k1.ts";
import { PASSPHRASE } from "../support/command-line.ts";
import { startGatewayProcess } from "../support/gateway-process.ts";
import { type Market, MODEL, openMarket } from "../support/market.ts";
import { type ScriptedOpenAiServer, startScriptedOpenAiServer } from "../support/scripted-openai-server.ts";
import { readBook } from "../support/seller-book.ts";

const PROMPT = "canary-prompt-7f3a";
const SYSTEM = "canary-system-51bc";
const ANSWER = ["canary", "-answer", "-c0de"];
const API_KEY = "canary-api-key-99d1";
const GATEWAY_TOKEN = "canary-gateway-token-1e7b";
const DEBUG = ["--log-level", "debug"];

describe("what is logged at the most talkative level", function () {
  this.timeout(90_000);
  let model: ScriptedOpenAiServer;
  let market: Market;
  /** Everything that either side wrote beside its results. */
  let logs = "";
  let answered = "";
  const secrets = new Map<string, string>();

  before(async () => {
    let round = 0;
    model = await startScriptedOpenAiServer(MODEL, async ({ response, say, finish }) => {
      round += 1;
      for (const part of ANSWER) await say(part);
      if (round === 1 || round === 4) return finish(9, ANSWER.length);
      if (round === 2) return void response.end(`data: {"${ANSWER.join("")} ${PROMPT}\n\n`);
      response.end(`data: {"error":{"message":"I cannot say ${ANSWER.join("")} to ${PROMPT}"}}\n\n`);
    });
    const upstream = ["--upstream", "openai", "--upstream-url", model.url];
    market = await openMarket({ upstream, sellerEnv: { INFERNET_UPSTREAM_API_KEY: API_KEY } });
    const worker = await market.startWorker(...DEBUG);
    const ask = async (...flags: string[]) => {
      const buyer = market.submit(
        PROMPT,
        "--system",
        SYSTEM,
        "--max-tokens",
        "64",
        "--wait",
        ...DEBUG,
        ...flags,
      );
      const ended = await buyer.ended;
      logs += ended.stderr;
      return ended;
    };
    const whole = await ask();
    expect(whole.exitCode, whole.stderr).to.equal(0);
    answered = whole.stdout;
    for (const form of [[], ["--json"]]) expect((await ask(...form)).exitCode).to.equal(6);
    const refused = await market.buyer.run([
      "job",
      "submit",
      "--model",
      "none",
      "--prompt",
      PROMPT,
      ...DEBUG,
    ]);
    const recovered = await market.buyer.run(["job", "recover", ...DEBUG]);
    logs += refused.stderr + recovered.stderr + (await askGateway(market));
    worker.child.kill("SIGTERM");
    const { stdout, stderr } = await worker.ended;
    logs += stdout + stderr;
    await collectSecrets(market, secrets);
  });
  after(async () => {
    await market?.close();
    await model?.close();
  });

  it("is something: both sides tell of the job", () => {
    expect(answered).to.equal(`${ANSWER.join("")}\n`);
    expect(model.requests[0]!.headers.authorization).to.equal(`Bearer ${API_KEY}`);
    expect(logs).to.contain('"level":"debug"').and.to.contain("streamEnded").and.to.contain("opened job");
  });

  it("holds no prompt, answer, salt, key, signature or passphrase", () => {
    const kinds = [...secrets.keys()].join();
    for (const kind of ["prompt", "answer", "salt", "wallet key", "receipt", "delivery", "offer", "TLS key"])
      expect(kinds).to.contain(kind);
    const lower = logs.toLowerCase();
    const told = [...secrets].filter(([, secret]) => lower.includes(secret.toLowerCase()));
    expect(told.map(([kind]) => kind)).to.deep.equal([]);
  });
});

/** Buys a whole answer and one that breaks through a gateway with a token, and returns all that it wrote. */
async function askGateway(market: Market): Promise<string> {
  const tokenFile = join(market.buyer.home, "gateway-token");
  writeFileSync(tokenFile, GATEWAY_TOKEN, { mode: 0o600 });
  const gateway = await startGatewayProcess(market, "--token-file", tokenFile, ...DEBUG);
  const ask = async (token: string) => {
    const messages = [
      { role: "system", content: SYSTEM },
      { role: "user", content: PROMPT },
    ];
    const answer = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ model: MODEL, messages, max_tokens: 64 }),
    });
    return { status: answer.status, text: await answer.text() };
  };
  const whole = await ask(GATEWAY_TOKEN);
  expect(whole.status, whole.text).to.equal(200);
  expect(whole.text).to.contain(ANSWER.join(""));
  expect((await ask(GATEWAY_TOKEN)).status).to.equal(502);
  expect((await ask(`${GATEWAY_TOKEN}-false`)).status).to.equal(401);
  gateway.child.kill("SIGTERM");
  const { stdout, stderr } = await gateway.ended;
  return stdout + stderr;
}

async function collectSecrets({ buyer, seller }: Market, secrets: Map<string, string>): Promise<void> {
  const add = (kind: string, secret: unknown) => {
    const text = String(secret).replace(/^0x/, "");
    expect(text.length, kind).to.be.above(7);
    secrets.set(kind, text);
  };
  add("prompt", PROMPT);
  add("system prompt", SYSTEM);
  add("answer", ANSWER.join(""));
  add("piece of the answer", ANSWER[1] + ANSWER[2]!);
  add("upstream's key", API_KEY);
  add("gateway token", GATEWAY_TOKEN);
  add("passphrase", PASSPHRASE);
  const walletKey = await loadKey(homePaths(buyer.home).walletKey, PASSPHRASE);
  add("wallet key", walletKey);
  add("node key", await loadKey(homePaths(seller.home).nodeKey, PASSPHRASE));
  const seed = deriveSecret(walletKey, "requester");
  add("requester's seed", seed);
  for (const index of [0, 1, 2]) {
    add(`signer key ${index}`, deriveSecret(seed, `signer:${index}`));
    add(`derived salt ${index}`, jobSalt(seed, index));
  }
  readBook(seller.home, (db) => {
    for (const job of db.prepare("SELECT * FROM jobs").all()) {
      add(`salt of ${job.job_id}`, job.salt);
      add(`receipt of ${job.job_id}`, job.receipt_signature);
    }
    for (const { request_id, delivery } of db.prepare("SELECT * FROM requests").all())
      add(`delivery of ${request_id}`, JSON.parse(String(delivery)).signature);
    for (const { offer_hash, signature } of db.prepare("SELECT * FROM offers").all())
      add(`offer ${offer_hash}`, signature);
  });
  const pem = readFileSync(join(homePaths(seller.home).tlsFolder, "key.pem"), "utf8");
  add("TLS key", pem.split("\n")[1]);
}
