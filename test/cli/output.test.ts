import { PassThrough } from "node:stream";
import { expect } from "chai";
import { createOutput, formatTable, printable } from "../../cli/output.ts";
import { InfernetError } from "../../protocol/errors.ts";

function record(options: { json?: boolean; quiet?: boolean } = {}) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const output = createOutput({ stdout, stderr, json: false, quiet: false, ...options });
  const read = (stream: PassThrough) => String(stream.read() ?? "");
  return { output, stdout: () => read(stdout), stderr: () => read(stderr) };
}

describe("output", () => {
  it("writes a result for people as text, for programs as one JSON document with bigints as strings", () => {
    const people = record();
    people.output.result({ wei: 5n }, () => "five");
    expect(people.stdout()).to.equal("five\n");
    const programs = record({ json: true });
    programs.output.result({ wei: 5n }, () => "five");
    expect(JSON.parse(programs.stdout())).to.deep.equal({ wei: "5" });
  });

  it("keeps progress off stdout, and silent with --quiet", () => {
    const people = record();
    people.output.progress({ event: "opened", tx: "0x1" }, "opened 0x1");
    expect([people.stdout(), people.stderr()]).to.deep.equal(["", "opened 0x1\n"]);
    const programs = record({ json: true });
    programs.output.progress({ event: "opened", tx: "0x1" }, "opened 0x1");
    expect(JSON.parse(programs.stderr())).to.deep.equal({ event: "opened", tx: "0x1" });
    const quiet = record({ quiet: true });
    quiet.output.progress({ event: "opened" }, "opened");
    expect(quiet.stderr()).to.equal("");
  });

  it("tells an error with its hint, and returns the code's exit code", () => {
    const { output, stderr } = record();
    const error = new InfernetError("insufficient-funds", "the credit is 0", { hint: "Deposit some." });
    expect(output.fail(error)).to.equal(3);
    expect(stderr()).to.equal("error: the credit is 0\nhint: Deposit some.\n");
  });

  it("tells an error to programs with its code, figures and exit code", () => {
    const { output, stderr } = record({ json: true });
    const error = new InfernetError("receipt-too-small", "sign more", { data: { need: "12" } });
    expect(output.fail(error)).to.equal(3);
    expect(JSON.parse(stderr())).to.deep.equal({
      error: { need: "12", code: "receipt-too-small", message: "sign more", exitCode: 3 },
    });
  });

  it("calls anything else a bug: stack trace and exit code 1", () => {
    const { output, stderr } = record();
    expect(output.fail(new RangeError("off by one"))).to.equal(1);
    expect(stderr()).to.contain("bug").and.to.contain("output.test.ts");
    const programs = record({ json: true });
    expect(programs.output.fail("thrown text")).to.equal(1);
    expect(JSON.parse(programs.stderr()).error).to.include({ code: "bug", message: "thrown text" });
  });

  it("prints nothing of a stranger's text that moves the cursor", () => {
    expect(printable("a\u001b[2Jb\u0007\r\u202ec")).to.equal("abc");
    const { output, stderr } = record();
    output.fail(new InfernetError("node-misbehaved", "\u001b[31mowned"));
    expect(stderr()).to.equal("error: owned\n");
  });

  it("lines up columns by what is visible", () => {
    expect(
      formatTable([
        ["\u001b[2mA\u001b[22m", "B"],
        ["long", "b"],
      ]),
    ).to.equal("\u001b[2mA\u001b[22m     B\nlong  b");
  });
});
