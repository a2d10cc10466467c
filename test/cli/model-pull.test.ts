// `worker --pull`: what is fetched, how it is told, and what is said when it cannot be. Ollama is a false one, as no
// library of models can be reached from a test.
import { expect } from "chai";
import { pullMissing } from "../../cli/model-pull.ts";
import { openOllama } from "../../provider/upstreams/ollama.ts";
import { type FakeAnswer, startFakeOllama } from "../support/fake-ollama.ts";
import { failureOf } from "../support/machine.ts";
import { ScriptedUpstream } from "../support/scripted-upstream.ts";

const layer = (completed: number) => ({
  ...{ status: "pulling ab", digest: "sha256:ab", total: 2_000_000, completed },
});

describe("worker --pull", () => {
  async function pull(lines: FakeAnswer["lines"], names: string[]) {
    const server = await startFakeOllama({ lines });
    const upstream = openOllama({ url: server.url });
    const told: string[] = [];
    const output = { progress: (_event: object, human: string) => void told.push(human) };
    const { signal } = new AbortController();
    try {
      const entries = [{ name: "ollama", upstream, capacity: 1 }];
      await pullMissing({ output: output as never, signal }, entries, names);
      return { told, requests: server.requests };
    } finally {
      await upstream.close();
      await server.close();
    }
  }

  it("fetches what is listed and not there, and tells how far it is, each step once", async () => {
    const lines = [{ status: "pulling manifest" }, layer(1_000_000), layer(1_010_000), layer(2_000_000)];
    const { told, requests } = await pull([...lines, { status: "success" }], ["fake", "other:1b"]);
    expect(requests).to.deep.equal([{ name: "other:1b", stream: true }]);
    expect(told).to.deep.equal([
      "other:1b: pulling manifest",
      "other:1b: pulling 50% of 2 MB",
      "other:1b: pulling 100% of 2 MB",
      "other:1b: success",
    ]);
  });

  it("asks nothing where all is there", async () => {
    expect((await pull([], ["fake"])).requests).to.deep.equal([]);
  });

  it("says that no such model is published, or why it cannot come", async () => {
    for (const [error, code] of [
      ["pull model manifest: file does not exist", "model-not-found"],
      ["dial tcp: lookup registry.ollama.ai: no such host", "upstream-failed"],
    ] as const) {
      const failure = await failureOf(() => pull([{ status: "pulling manifest" }, { error }], ["none"]));
      expect(failure.code).to.equal(code);
      expect(failure.hint).to.not.equal("");
    }
  });

  it("needs an Ollama", async () => {
    const entries = [{ name: "server", upstream: new ScriptedUpstream([]), capacity: 1 }];
    const context = { output: {} as never, signal: new AbortController().signal };
    const failure = await failureOf(() => pullMissing(context, entries, ["none"]));
    expect(failure.code).to.equal("bad-request");
  });
});
