import { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { expect } from "chai";
import fc from "fast-check";
import { InfernetError } from "../../protocol/errors.ts";
import { createLogger, type LogLevel } from "../../runtime/logger.ts";
import { failureOf, startProcess } from "../support/machine.ts";
import { holds } from "../support/properties.ts";

const CANARY = "canary-5f1e";

function recorder(level: LogLevel = "debug") {
  let text = "";
  const destination = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const log = createLogger({ level, destination });
  const lines = () =>
    text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  return { log, lines, written: () => text };
}

describe("logger", () => {
  it("writes a JSON line with level, time, message and fields", () => {
    const { log, lines } = recorder();
    log.info(
      { job: "0x01", node: "0x02", tx: "0x03", amount: 12n, promptTokens: 7, estimated: false },
      "charged",
    );
    const [{ time, ...line }] = lines();
    expect(line).to.deep.equal({
      level: "info",
      job: "0x01",
      node: "0x02",
      tx: "0x03",
      amount: "12",
      promptTokens: 7,
      estimated: false,
      message: "charged",
    });
    expect(new Date(time).toISOString()).to.equal(time);
  });

  it("writes what is at its level or above", () => {
    const messagesAt = (level: LogLevel) => {
      const { log, lines } = recorder(level);
      for (const name of ["debug", "info", "warn", "error"] as const) log[name]({}, name);
      return lines().map(({ message }) => message);
    };
    expect(messagesAt("debug")).to.deep.equal(["debug", "info", "warn", "error"]);
    expect(messagesAt("warn")).to.deep.equal(["warn", "error"]);
    expect(messagesAt("silent")).to.deep.equal([]);
  });

  it("writes a child's fields on each of its lines, redacted too", () => {
    const { log, lines, written } = recorder();
    log.child({ job: "0x01", salt: CANARY }).child({ request: "0x02" }).warn({}, "late");
    expect(lines()[0]).to.include({ job: "0x01", request: "0x02", level: "warn" });
    expect(written()).to.not.contain(CANARY);
  });

  it("never writes a secret or a user's text, under any of its names and at any depth", () => {
    const names =
      "key privateKey private_key sessionKey apiKey api-key keyPem salt infernet-salt signature sig r s vs signedOffer " +
      "passphrase INFERNET_PASSPHRASE password mnemonic seed authorization Authorization cookie set-cookie prompt " +
      "systemPrompt completion content messages message body text payload payloads headers input output delta choices " +
      "receipt requesterSalt walletPassphrase nextPayload raw rawTransaction accessToken keystore secret clientSecret credentials";
    const nest = (value: object, depth: number): object =>
      depth === 0 ? value : nest(depth % 2 ? { inner: value } : { list: [1, value] }, depth - 1);
    const secret = fc.constantFrom<unknown>(
      CANARY,
      [CANARY],
      { any: CANARY },
      { role: "user", deep: [{ x: CANARY }] },
    );
    const property = fc.property(
      fc.constantFrom(...names.split(" ")),
      secret,
      fc.nat(10),
      (name, value, depth) => {
        const { log, written } = recorder();
        const fields = nest({ [name]: value }, depth);
        log.error(fields, "failed");
        log.child(fields).error({}, "failed");
        expect(written(), name).to.not.contain(CANARY);
      },
    );
    holds(property, 400);
  });

  it("never writes a signature or a signed transaction, whatever it is called", () => {
    const { log, written, lines } = recorder();
    const hex = "ab".repeat(65);
    const error = new Error(`reverted: data=0x${hex}`, { cause: new Error(`raw 0x02${hex}`) });
    log.error({ header: `5;0x${"00".repeat(32)};0x${hex}`, bare: hex, list: [hex], error }, "failed");
    expect(written()).to.not.contain(hex);
    log.info({ job: `0x${"ab".repeat(32)}` }, "kept");
    expect(lines()[1].job).to.equal(`0x${"ab".repeat(32)}`);
  });

  it("writes an error with its causes, code, hint and figures, and a stack only for a bug", () => {
    const { log, lines } = recorder();
    const bug = Object.assign(new TypeError("broken"), { code: "ERR_X" });
    const known = new InfernetError("node-busy", "busy", { hint: "Wait.", data: { queue: 3 }, cause: bug });
    log.error({ error: known }, "failed");
    const { error } = lines()[0];
    expect(error).to.deep.include({
      name: "InfernetError",
      reason: "busy",
      code: "node-busy",
      hint: "Wait.",
      queue: 3,
    });
    expect(error.cause).to.include({ name: "TypeError", reason: "broken", code: "ERR_X" });
    expect(error.cause.stack[0]).to.match(/^at .*logger\.test\.ts/);
    expect(error).to.not.have.property("stack");
  });

  it("does not repeat the text that a parser failed on", async () => {
    const { log, written } = recorder();
    const parse = () => {
      try {
        // Short, so that V8 quotes it whole.
        JSON.parse("Paris");
      } catch (cause) {
        throw new InfernetError("bad-request", "the body is not JSON", { cause });
      }
    };
    log.warn({ error: await failureOf(parse) }, "refused");
    expect(written()).to.contain("SyntaxError").and.to.not.contain("Paris");
  });

  it("writes what cannot be JSON without failing", () => {
    const { log, lines } = recorder();
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    const fields = {
      circle,
      bytes: new Uint8Array(3),
      at: new Date(0),
      url: new URL("http://a/"),
      none: undefined,
    };
    log.info(fields, "odd");
    expect(lines()[0]).to.include({ bytes: "[3 bytes]", at: new Date(0).toISOString(), url: "http://a/" });
  });

  it("writes to stderr, not to stdout, up to the last line before a crash", async () => {
    const child = startProcess(`
      import { createLogger } from "./runtime/logger.ts";
      createLogger({ level: "info" }).error({ job: "0x01" }, "last words");
      process.kill(process.pid, "SIGKILL");
    `);
    const [out, error] = await Promise.all([text(child.stdout), text(child.stderr)]);
    expect(out).to.equal("");
    expect(JSON.parse(error)).to.include({ job: "0x01", message: "last words" });
  });
});
