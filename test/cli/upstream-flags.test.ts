// What runs the models, as people say it: one upstream or several, each with what is its own, and never a guess.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { chooseUpstreams, readOllamaHost, type UpstreamFlags } from "../../cli/upstream-flags.ts";
import { collectUpstream, parseUpstreams } from "../../cli/upstream-spec.ts";
import type { UpstreamSettings } from "../../provider/upstreams/open.ts";
import { openUpstreams } from "../../provider/upstreams/open.ts";
import { createCommandLine } from "../support/command-line.ts";
import { failureOf } from "../support/machine.ts";

/** The upstreams of these words and flags, without the members that nothing was said of. */
function chosen(words: string[], flags: UpstreamFlags = {}, env: NodeJS.ProcessEnv = {}) {
  const upstream = words.reduce<ReturnType<typeof parseUpstreams>>(
    (all, word) => collectUpstream(word, all),
    [],
  );
  return chooseUpstreams({ ...flags, upstream }, env).map((settings) => JSON.parse(JSON.stringify(settings)));
}

describe("--upstream", () => {
  it("names a kind, where it is, and what is its own, commas in its place included", () => {
    expect(collectUpstream("ollama")).to.deep.equal([{ kind: "ollama" }]);
    expect(collectUpstream("ollama,slots=2")).to.deep.equal([{ kind: "ollama", slots: 2 }]);
    expect(collectUpstream("openai=https://api.example/v1?a,b,slots=8,key=MY_KEY,model=m/x:1")).to.deep.equal(
      [
        {
          kind: "openai",
          url: "https://api.example/v1?a,b",
          slots: 8,
          keyVariable: "MY_KEY",
          modelName: "m/x:1",
        },
      ],
    );
    expect(collectUpstream("embedded=/models/a,b.gguf,model=tiny,context=512,threads=2")).to.deep.equal([
      { kind: "embedded", modelFile: "/models/a,b.gguf", modelName: "tiny", contextLength: 512, threads: 2 },
    ]);
    expect(parseUpstreams(" ollama  openai=http://127.0.0.1:1/v1 ")).to.have.length(2);
  });

  it("refuses what it does not understand, and says how to write it", () => {
    const wrongs = [
      "vllm",
      "openai=",
      "openai=127.0.0.1:8000",
      "ollama,slots=0",
      "ollama,slots=",
      "ollama,slots=1,slots=2",
      "",
    ];
    for (const wrong of wrongs) expect(() => collectUpstream(wrong), wrong).to.throw(/\.$/);
  });

  it("gives each upstream its own, and the flags without a place to the only one that they can mean", () => {
    expect(chosen([])).to.deep.equal([{ kind: "auto" }]);
    expect(chosen(["openai"], { upstreamUrl: "http://127.0.0.1:1" })).to.deep.equal([
      { kind: "openai", url: "http://127.0.0.1:1" },
    ]);
    expect(chosen([], { modelFile: "a.gguf", modelName: "a", threads: 1 })).to.deep.equal([
      { kind: "auto", modelFile: "a.gguf", modelName: "a", threads: 1 },
    ]);
    const mixed = chosen(["embedded", "openai=http://127.0.0.1:1,context=99"], {
      modelFile: "a.gguf",
      contextLength: 77,
    });
    expect(mixed).to.deep.equal([
      { kind: "embedded", modelFile: "a.gguf", contextLength: 77 },
      { kind: "openai", url: "http://127.0.0.1:1", contextLength: 99 },
    ]);
    expect(chosen(["ollama"], {}, { OLLAMA_HOST: "gpu.example" })).to.deep.equal([
      { kind: "ollama", url: "http://gpu.example:11434" },
    ]);
  });

  it("refuses a flag that fits none of the upstreams, or several", () => {
    const wrongs: [string[], UpstreamFlags][] = [
      [["ollama", "openai"], { upstreamUrl: "http://127.0.0.1:1" }],
      [["embedded=a.gguf"], { upstreamUrl: "http://127.0.0.1:1" }],
      [["ollama"], { modelFile: "a.gguf" }],
      [["ollama"], { modelName: "a" }],
      [[], { upstreamUrl: "http://127.0.0.1:1", modelFile: "a.gguf" }],
    ];
    for (const [words, flags] of wrongs)
      expect(() => chosen(words, flags), JSON.stringify([words, flags])).to.throw(/belong/);
  });

  it("shows an API key to the one server that it must be meant for, or to the one that names it", () => {
    const env = { INFERNET_UPSTREAM_API_KEY: "one", OTHER: "two" };
    const keys = (words: string[]) => chosen(words, {}, env).map(({ apiKey }) => apiKey);
    expect(keys(["openai=http://127.0.0.1:1", "ollama"])).to.deep.equal(["one", undefined]);
    expect(keys(["openai=http://127.0.0.1:1", "openai=http://127.0.0.1:2,key=OTHER"])).to.deep.equal([
      undefined,
      "two",
    ]);
  });

  it("has names of its own, and slots by its kind unless told", async () => {
    const list: UpstreamSettings[] = [
      { kind: "ollama", url: "http://127.0.0.1:11434" },
      { kind: "openai", url: "https://api.example:8443/v1", modelName: "m", slots: 9 },
    ];
    const entries = await openUpstreams(list);
    expect(entries.map(({ name, capacity }) => [name, capacity])).to.deep.equal([
      ["ollama 127.0.0.1:11434", 4],
      ["openai api.example:8443 m", 9],
    ]);
    for (const { upstream } of entries) await upstream.close();
    const twice = await failureOf(() => openUpstreams([...list, list[0]!]));
    expect(twice).to.include({
      code: "bad-config",
      message: 'the upstream "ollama 127.0.0.1:11434" is named twice',
    });
  });

  it("is kept in the settings, checked, and replaced by the flag and the variable", async function () {
    this.timeout(30_000);
    const user = await createCommandLine();
    try {
      const upstreams = "ollama,slots=2 openai=http://127.0.0.1:8000/v1";
      expect((await user.run(["config", "set", "provider.upstreams", upstreams])).exitCode).to.equal(0);
      expect((await user.run(["config", "get", "provider.upstreams"])).stdout).to.equal(`${upstreams}\n`);
      const wrong = await user.run(["config", "set", "provider.upstreams", "vllm"]);
      expect([wrong.exitCode, wrong.stderr.includes("Write it like")]).to.deep.equal([2, true]);
      const env = { INFERNET_UPSTREAMS: "auto" };
      const got = await user.run(["config", "get", "provider.upstreams", "--json"], { env });
      expect(JSON.parse(got.stdout)).to.include({ value: "auto", origin: "INFERNET_UPSTREAMS" });
      writeFileSync(join(user.home, "config.json"), '{"provider":{"upstreams":"vllm"}}');
      expect((await user.run(["config", "list"])).exitCode).to.equal(2);
      const flag = await user.run(["worker", "--upstream", "vllm"]);
      expect([flag.exitCode, flag.stderr.includes("Write it like")]).to.deep.equal([2, true]);
    } finally {
      await user.remove();
    }
  });
});

describe("OLLAMA_HOST", () => {
  it("is read as Ollama reads it: a URL, a host and port, or a host alone", () => {
    expect(readOllamaHost("http://gpu.example:8080")).to.equal("http://gpu.example:8080");
    expect(readOllamaHost("https://gpu.example")).to.equal("https://gpu.example");
    expect(readOllamaHost("127.0.0.1:4000")).to.equal("http://127.0.0.1:4000");
    expect(readOllamaHost("gpu.example")).to.equal("http://gpu.example:11434");
  });

  it("leaves the usual place when it is not set", () => {
    expect(readOllamaHost(undefined)).to.equal(undefined);
    expect(readOllamaHost("")).to.equal(undefined);
  });
});
