import { expect } from "chai";
import { findUpstreams } from "../../../provider/upstreams/find.ts";
import { openUpstream } from "../../../provider/upstreams/open.ts";
import { startFakeOllama } from "../../support/fake-ollama.ts";
import { rejectionOf } from "../../support/generation.ts";
import { answerJson, type LoopbackServer, startLoopbackServer } from "../../support/loopback-server.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

describe("finding and opening upstreams", () => {
  let ollama: LoopbackServer;
  let openai: LoopbackServer;
  let website: LoopbackServer;
  let silent: LoopbackServer;
  let gone: LoopbackServer;

  before(async () => {
    ollama = await startFakeOllama({ lines: [] });
    openai = await startLoopbackServer(({ path }, response) =>
      answerJson(response, { data: [{ id: "m" }] }, path === "/v1/models" ? 200 : 404),
    );
    website = await startLoopbackServer((_request, response) => response.end("<html></html>") && undefined);
    silent = await startLoopbackServer(() => {});
    gone = await startLoopbackServer(() => {});
    await gone.close();
  });

  after(async () => {
    for (const server of [ollama, openai, website, silent]) await server.close();
  });

  it("finds the servers that have models, in order, past places that are empty, silent or something else", async () => {
    const found = await findUpstreams([
      { kind: "ollama", url: gone.url },
      { kind: "ollama", url: website.url },
      { kind: "openai", url: silent.url },
      { kind: "openai", url: openai.url },
      { kind: "ollama", url: ollama.url },
      { kind: "openai", url: website.url },
    ]);
    expect(found.map(({ kind, url, models }) => [kind, url, models[0]?.name])).to.deep.equal([
      ["openai", openai.url, "m"],
      ["ollama", ollama.url, "fake"],
    ]);
  });

  it("opens what the settings name", async () => {
    for (const settings of [
      { kind: "ollama", url: ollama.url },
      { kind: "openai", url: openai.url },
      { kind: "embedded", modelFile: tinyModelFile(), threads: 1, slots: 1, contextLength: 256 },
    ] as const) {
      const upstream = await openUpstream(settings);
      expect(upstream.kind).to.equal(settings.kind);
      expect(await upstream.listModels()).to.have.length(1);
      await upstream.close();
    }
  });

  it("tells by itself what answers at a URL, and takes a model file before any search", async () => {
    for (const [url, kind] of [
      [ollama.url, "ollama"],
      [openai.url, "openai"],
    ] as const) {
      const upstream = await openUpstream({ kind: "auto", url });
      expect(await upstream.listModels()).to.have.length(1);
      expect(upstream.kind).to.equal(kind);
      await upstream.close();
    }
    const error = await rejectionOf(openUpstream({ kind: "auto", modelFile: "/nowhere/model.gguf" }));
    expect(error).to.have.property("code", "model-not-found");
  });

  it("says what is missing", async () => {
    const codes = [
      [{ kind: "openai" }, "bad-config"],
      [{ kind: "embedded" }, "bad-config"],
    ] as const;
    for (const [settings, code] of codes) {
      const error = await rejectionOf(openUpstream(settings));
      expect(error).to.have.property("code", code);
      expect(error).to.have.property("hint").that.is.not.equal("");
    }
    const nobody = await openUpstream({ kind: "auto", url: gone.url });
    const error = await rejectionOf(nobody.listModels());
    expect(error).to.have.property("code", "upstream-unreachable");
    expect(error).to.have.property("hint").that.is.not.equal("");
  });
});
