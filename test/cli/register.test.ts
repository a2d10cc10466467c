import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const ENDPOINT = "https://127.0.0.1:18443";

describe("infernet register, on a real chain", function () {
  this.timeout(60_000);
  let chain: LocalChain;
  let user: CommandLine;

  const register = async (...args: string[]) => {
    const model = ["--model-file", tinyModelFile(), "--model-name", "tiny"];
    const { exitCode, stdout, stderr } = await user.run(["register", "--json", ...model, ...args]);
    const lines = stderr.split("\n").filter((line) => line.startsWith("{"));
    return {
      exitCode,
      result: stdout ? JSON.parse(stdout) : undefined,
      last: JSON.parse(lines.at(-1) ?? "{}"),
    };
  };
  const nodeAddress = async () =>
    `0x${JSON.parse(await readFile(join(user.home, "node.json"), "utf8"))
      .address.replace(/^0x/, "")
      .toLowerCase()}` as const;

  before(async () => {
    chain = await startLocalChain();
    user = await createCommandLine(chain);
  });
  after(async () => {
    await user.remove();
    await chain.stop();
  });

  it("names the flag that is missing when there is nobody to ask", async () => {
    const { exitCode, last } = await register();
    expect(exitCode).to.equal(2);
    expect(last.error).to.include({ code: "bad-config" });
    expect(last.error.message).to.contain("--endpoint");
  });

  it("names --payee when there is no wallet that could earn", async () => {
    const { exitCode, last } = await register("--endpoint", ENDPOINT);
    expect(exitCode).to.equal(2);
    expect(last.error.message).to.contain("--payee");
  });

  it("says which models there are when asked for another", async () => {
    await user.run(["wallet", "create"]);
    const { exitCode, last } = await register("--endpoint", ENDPOINT, "--model", "large=0.1:0.2");
    expect(exitCode).to.equal(6);
    expect(last.error).to.include({ code: "model-not-found" });
    expect(last.error.hint).to.contain("tiny");
  });

  it("names the node's address when it has no gas", async () => {
    const { exitCode, last } = await register("--endpoint", ENDPOINT, "--model", "tiny=0.1:0.2");
    expect(exitCode).to.equal(3);
    expect(last.error.code).to.equal("insufficient-funds");
    expect(`${last.error.message} ${last.error.hint}`).to.contain(await nodeAddress());
  });

  it("registers the node with the wallet as payee and the model's own digest", async () => {
    await chain.fundNative(await nodeAddress(), 10n ** 18n);
    const { exitCode, result } = await register("--endpoint", `${ENDPOINT}/`, "--model", "tiny=0.1:0.2");
    expect(exitCode).to.equal(0);
    const wallet = (await user.run(["wallet", "address"])).stdout.trim();
    expect(result).to.include({ payee: wallet, endpoint: ENDPOINT, active: true, created: true });
    expect(result.models).to.have.length(1);
    expect(result.models[0]).to.include({ name: "tiny", inputPriceUsdc: "0.10", outputPriceUsdc: "0.20" });
    expect(result.models[0].digest).to.match(/^0x(?!0+$)[0-9a-f]{64}$/);
    expect(result.transactions).to.have.length(1);
    expect(result.transactions[0]).to.include({ label: "register" });
  });

  it("changes nothing and sends nothing when all is as wanted", async () => {
    const { result } = await register("--endpoint", ENDPOINT, "--model", "tiny=0.1:0.2");
    expect(result).to.deep.include({ created: false, transactions: [] });
  });

  it("changes prices and endpoint each by its own transaction, and lists the outcome", async () => {
    const moved = "https://127.0.0.1:18444";
    const { result } = await register("--endpoint", moved, "--model", "tiny=0.3:0.4");
    expect(result.transactions.map(({ label }: { label: string }) => label)).to.deep.equal([
      "setEndpoint",
      "setModels",
    ]);
    const { nodes } = JSON.parse((await user.run(["nodes", "--json", "--model", "tiny"])).stdout);
    expect(nodes).to.have.length(1);
    expect(nodes[0]).to.include({ node: await nodeAddress(), endpoint: moved, active: true });
    const { models } = JSON.parse((await user.run(["models", "--search", "TIN", "--json"])).stdout);
    expect(models).to.deep.equal([
      {
        name: "tiny",
        nodes: 1,
        cheapest: { node: await nodeAddress(), inputPriceUsdc: "0.30", outputPriceUsdc: "0.40" },
        features: null,
      },
    ]);
  });

  it("shows the node's entry, and says so when a node has none", async () => {
    const shown = JSON.parse((await user.run(["node", "show", "--json"])).stdout);
    expect(shown.node).to.equal(await nodeAddress());
    const stranger = "0x00000000000000000000000000000000000000aa";
    const { exitCode, stderr } = await user.run(["node", "show", stranger]);
    expect(exitCode).to.equal(7);
    expect(stderr).to.contain(stranger);
  });
});
