// `npm start`'s trip, on the tiny model: it adds up to the base unit and leaves nothing behind, also when interrupted.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect } from "chai";
import { chargeOf, formatUsdc } from "../../protocol/price.ts";
import { createMark, markedProcesses } from "../support/leftovers.ts";
import { temporaryFolder } from "../support/machine.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { type WatchedProcess, watchProcess } from "../support/watched-process.ts";

const ROOT = resolve(import.meta.dirname, "../..");
/** What the trip sells at, in base units for a million tokens. */
const PRICES = { inputPrice: 100_000n, outputPrice: 400_000n };

describe("npm start's trip", function () {
  this.timeout(180_000);
  let running: WatchedProcess | undefined;
  afterEach(async () => {
    // Asked, not killed: after a failure too the trip ends what it has started.
    running?.child.kill("SIGTERM");
    await running?.ended;
  });

  /** Starts the trip in a folder of its own for temporary files; `leftovers` is what it has left there and elsewhere. */
  const startTrip = (...flags: string[]) => {
    const [mark, folder, model] = [createMark(), temporaryFolder(), tinyModelFile()];
    const trip = watchProcess(
      spawn(
        process.execPath,
        ["--import=tsx", "tools/demo/main.ts", "--model-file", model, "--max-tokens", "40", ...flags],
        { cwd: ROOT, env: { ...process.env, ...mark, TMPDIR: folder }, stdio: ["ignore", "pipe", "pipe"] },
      ),
    );
    running = trip;
    const leftovers = () => [
      ...markedProcesses(mark),
      ...readdirSync(folder).filter((name) => name.startsWith("infernet")),
      ...deployments().filter((name) => name.endsWith(`-${trip.child.pid}`)),
    ];
    return { trip, leftovers };
  };

  it("sells and buys one answer: what was paid, received and charged is one amount, and nothing is left", async () => {
    const { trip, leftovers } = startTrip("--json", "hello world");
    const { exitCode, stdout, stderr } = await trip.ended;
    expect(exitCode, stderr).to.equal(0);
    const summary = JSON.parse(stdout);
    expect(summary).to.include.all.keys(
      "jobId,node,model,upstream,promptTokens,completionTokens,chargeUsdc,requesterPaid,payeeReceived,gas,firstTokenMs".split(
        ",",
      ),
    );
    const { promptTokens, completionTokens, chargeUsdc, requesterPaid, payeeReceived, gas } = summary;
    expect(chargeUsdc).to.equal(formatUsdc(chargeOf([{ promptTokens, completionTokens }], PRICES)));
    expect([requesterPaid, payeeReceived]).to.deep.equal([chargeUsdc, chargeUsdc]);
    expect(gas).to.have.all.keys("open", "settle", "payOut");
    for (const used of Object.values(gas)) expect(used).to.be.within(21_000, 250_000);
    expect(leftovers()).to.deep.equal([]);
  });

  it("does the same through the gateway with OpenAI's client: both sides tell one bill, and nothing is left", async () => {
    const { trip, leftovers } = startTrip("--gateway", "--json", "hello world");
    const { exitCode, stdout, stderr } = await trip.ended;
    expect(exitCode, stderr).to.equal(0);
    const { served, jobChargeUsdc, claimedUsdc, requesterPaid, payeeReceived, answer } = JSON.parse(stdout);
    const charge = formatUsdc(chargeOf([served], PRICES));
    expect(answer).not.to.equal("");
    expect(served.chargeUsdc).to.equal(charge);
    expect([jobChargeUsdc, claimedUsdc, requesterPaid, payeeReceived]).to.deep.equal(Array(4).fill(charge));
    expect(leftovers()).to.deep.equal([]);
  });

  it("ends with 130 when it is interrupted in the middle, and leaves no process and no file", async () => {
    const { trip, leftovers } = startTrip("hello world");
    await trip.until(({ stderr }) => /^Live /m.test(stderr));
    expect(leftovers()).to.not.have.length(0);
    trip.child.kill("SIGINT");
    const { exitCode, stderr } = await trip.ended;
    expect(exitCode, stderr).to.equal(130);
    expect(leftovers()).to.deep.equal([]);
  });
});

function deployments(): string[] {
  try {
    return readdirSync(join(ROOT, "ignition", "deployments"));
  } catch {
    return [];
  }
}
