import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import prompts from "prompts";
import { choosePassphrase, readPassphrase } from "../../cli/passphrase.ts";
import { createPrompter } from "../../cli/prompting.ts";
import type { InfernetError } from "../../protocol/errors.ts";

const sources = (env: NodeJS.ProcessEnv, canAsk = false) => ({
  env,
  prompter: createPrompter({ canAsk, stdin: process.stdin, stderr: new PassThrough() }),
});

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: InfernetError) => error.code,
  );
}

describe("passphrase", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "infernet-passphrase-"));
  });
  after(() => rm(folder, { recursive: true }));

  it("comes from the environment before any question", async () => {
    expect(await readPassphrase(sources({ INFERNET_PASSPHRASE: "one two" }), "a key")).to.equal("one two");
  });

  it("comes from a file, without the line break that ends it", async () => {
    const path = join(folder, "passphrase");
    await writeFile(path, " one two \n");
    expect(await readPassphrase(sources({ INFERNET_PASSPHRASE_FILE: path }), "a key")).to.equal(" one two ");
  });

  it("is an error that names the variables when there is neither, nor a terminal", async () => {
    for (const ask of [readPassphrase, choosePassphrase]) {
      const error = await ask(sources({}), "the wallet key").catch((thrown) => thrown);
      expect(error.code).to.equal("bad-config");
      expect(error.hint).to.contain("INFERNET_PASSPHRASE_FILE");
      expect(error.exitCode).to.equal(2);
    }
  });

  it("is an error when its file is empty or cannot be read", async () => {
    const empty = join(folder, "empty");
    await writeFile(empty, "\n");
    for (const path of [empty, join(folder, "nowhere")]) {
      const reading = readPassphrase(sources({ INFERNET_PASSPHRASE_FILE: path }), "a key");
      expect(await codeOf(reading), path).to.equal("bad-config");
    }
  });

  it("is asked for in a terminal, a new one twice", async () => {
    prompts.inject(["correct horse", "correct horse"]);
    expect(await choosePassphrase(sources({}, true), "the wallet key")).to.equal("correct horse");
    prompts.inject(["battery staple"]);
    expect(await readPassphrase(sources({}, true), "the wallet key")).to.equal("battery staple");
  });

  it("ends as interrupted when the person leaves the question", async () => {
    prompts.inject([new Error("left")]);
    expect(await codeOf(readPassphrase(sources({}, true), "the wallet key"))).to.equal("interrupted");
  });
});
