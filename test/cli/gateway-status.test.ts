// `infernet gateway status` as people and programs meet it: a gateway that is there, one with a token, and none.
import { expect } from "chai";
import { describeStatus } from "../../requester/gateway/status.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { NODE, SOLD, startScriptedGateway } from "../support/scripted-gateway.ts";

const TOKEN = "a-token-that-is-long-enough";
const DEADLINE = 1_800_003_600;
const PARTS = {
  account: NODE,
  day: { signed: 1_500n, left: 8_500n },
  sessions: [
    {
      ...{ jobId: `0x${"01".repeat(32)}` as const, state: "open" as const, node: NODE, model: SOLD.name },
      ...{
        deposit: 500_000n,
        signed: 1_500n,
        charged: 1_200n,
        requests: 3,
        active: 1,
        openedAt: 1_800_000_000,
      },
      ...{ usedAt: 1_800_000_000, deadline: DEADLINE, locked: 500_000n, returnsAt: DEADLINE, evidence: null },
    },
  ],
  routes: [
    {
      ...{
        node: NODE,
        model: SOLD.name,
        requests: 4,
        firstTokenMs: 120.4,
        tokensPerSecond: 33.33,
        errorRate: 0.2,
      },
      lastErrors: [{ at: 1_800_000_000, code: "upstream-failed", message: "it broke" }],
      ...{ coolUntil: 1_800_000_005, coolReason: "upstream-failed", dropped: null },
    },
  ],
};

describe("infernet gateway status", function () {
  this.timeout(30_000);
  let user: CommandLine;
  before(async () => {
    user = await createCommandLine();
  });
  after(() => user.remove());

  it("shows spending, sessions, what is locked and until when, and the routes", async () => {
    const gateway = await startScriptedGateway(() => {}, {
      status: (counts) => describeStatus(PARTS, counts),
    });
    try {
      const { port } = new URL(gateway.url);
      const { exitCode, stdout, stderr } = await user.run(["gateway", "status", "--port", port]);
      expect(exitCode, stderr).to.equal(0);
      expect(stdout).to.contain("0.001500 USDC signed, 0.008500 left of the budget");
      expect(stdout).to.contain("0.500000 USDC, back at the latest 2027-01-15T09:00:00.000Z");
      expect(stdout).to.match(/org\/tiny:1b +4 +120 ms +33\.3 +20% +cools down until .*: upstream-failed/);
      const json = JSON.parse((await user.run(["gateway", "status", "--port", port, "--json"])).stdout);
      expect(json.sessions[0]).to.include({ depositUsdc: "0.500000", signedUsdc: "0.001500", active: 1 });
    } finally {
      await gateway.stop(0);
    }
  });

  it("brings the token of the gateway, and ends with 2 without it", async () => {
    const status = (counts: Parameters<typeof describeStatus>[1]) => describeStatus(PARTS, counts);
    const gateway = await startScriptedGateway(() => {}, { token: TOKEN, status });
    try {
      const words = ["gateway", "status", "--port", new URL(gateway.url).port];
      expect((await user.run(words, { env: { INFERNET_GATEWAY_TOKEN: TOKEN } })).exitCode).to.equal(0);
      const { exitCode, stderr } = await user.run(words);
      expect(exitCode).to.equal(2);
      expect(stderr).to.match(/error: the gateway at .* wants its token\nhint: /);
    } finally {
      await gateway.stop(0);
    }
  });

  it("ends with 8 where no gateway answers, and says how to start one", async () => {
    const { exitCode, stderr } = await user.run(["gateway", "status", "--port", String(await freePort())]);
    expect(exitCode).to.equal(8);
    expect(stderr).to.match(/error: no gateway answers at .*\nhint: Start one: infernet gateway/);
  });
});
