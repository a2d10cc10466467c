import { expect } from "chai";
import fc from "fast-check";
import type { Style } from "../../../cli/output.ts";
import { cellsOf, cutTo, flow } from "../../../cli/tui/layout.ts";
import { renderWorkerView } from "../../../cli/tui/worker-view.ts";
import type { ProviderSnapshot } from "../../../provider/start.ts";
import { exampleOffer } from "../../support/examples.ts";

const paint = (name: string) => (text: string) => `<${name}>${text}</${name}>`;
const plain: Style = {
  bold: String,
  dim: String,
  green: paint("green"),
  yellow: paint("yellow"),
  red: paint("red"),
};
const [MODEL] = exampleOffer().models;

const UP: ProviderSnapshot["upstreams"][number] = {
  ...{ name: "ollama", kind: "ollama", state: "up", reason: null, models: ["tiny"] },
  ...{ running: 1, capacity: 4 },
};
const DOWN = { ...UP, name: "openai", state: "down" as const, reason: "it does not answer" };

function snapshotOf(changes: Partial<ProviderSnapshot> = {}): ProviderSnapshot {
  const offer = exampleOffer();
  return {
    ...{ node: offer.node, payee: offer.payee, endpoint: offer.endpoint, offer, models: ["tiny"] },
    ...{
      live: true,
      hindrances: [],
      upstreams: [UP],
      queued: 0,
      activeStreams: 1,
      earnedOnChain: 0n,
      lastError: null,
      head: null,
    },
    ...{ charged: 3_250_000n, settled: 3_000_000n, paidOut: 2_500_000n },
    jobs: { open: 1, settling: 0, closed: 7 },
    activity: {
      ...{ tokensPerSecond: 38.25, busySlotSeconds: 90, slotSeconds: 400, utilisation: 0.225 },
      today: { requests: 1, promptTokens: 1_234, completionTokens: 56_789 },
    },
    ...changes,
  };
}
const SIZE = { columns: 100, rows: 40 };
const render = (
  changes: Partial<ProviderSnapshot> = {},
  { isStopping = false, texts = [] as string[], size = SIZE } = {},
) => {
  const happenings = texts.map((text) => ({ at: new Date(2026, 10, 30, 9, 5, 7), text }));
  return renderWorkerView({ snapshot: snapshotOf(changes), isStopping, happenings }, size, plain);
};

describe("the worker's view", () => {
  it("shows what runs, what was served and what it came to", () => {
    const lines = render();
    expect(lines[0]).to.equal("<green>●</green> your node is live");
    expect(lines).to.include(
      "  now 1 of 4 running · 0 queued · 38.3 tokens/s · slots 23% busy in the last hour",
    );
    expect(lines).to.include("  today 1 request · 1,234 tokens in, 56,789 out");
    expect(lines).to.include("  USDC 3.250000 charged · 3.000000 settled · 2.500000 paid out");
    expect(lines).to.include("  tiny   0.10  0.30");
  });

  it("is yellow while one of several upstreams is down, red with the reasons when nothing can be sold", () => {
    const yellow = render({ upstreams: [UP, DOWN], queued: 2 });
    expect(yellow[0]).to.equal(
      "<yellow>●</yellow> your node is live, but openai is down (it does not answer)",
    );
    expect(yellow).to.include("  ollama 1 of 4 · openai down");
    expect(yellow.join()).to.contain("2 queued");
    const hindrances = ["no model can be sold", "the chain does not answer"];
    const red = render({ live: false, hindrances }, { size: { columns: 40, rows: 40 } });
    expect(red.slice(0, 3)).to.deep.equal([
      "<red>●</red> your node is not live: no",
      "model can be sold; the chain does not",
      "answer",
    ]);
  });

  it("says what a stop waits for", () => {
    const jobs = { open: 0, settling: 2, closed: 0 };
    const head = (changes: Partial<ProviderSnapshot>) => render(changes, { isStopping: true })[0];
    expect(head({ activeStreams: 2 })).to.equal("<yellow>●</yellow> stopping: waiting for 2 requests to end");
    expect(head({ activeStreams: 0, jobs })).to.contain("settling 2 jobs on the chain");
    expect(head({ activeStreams: 0 })).to.contain("putting things in order");
  });

  it("shows the latest happenings, as many as there is room for", () => {
    const texts = Array.from({ length: 50 }, (_, index) => `happening ${index}`);
    const lines = render({}, { texts });
    expect(lines).to.have.length(SIZE.rows);
    expect(lines.at(-3)).to.equal("  09:05:07 happening 49");
    expect(render({}, { texts, size: { columns: 100, rows: 11 } }).join()).to.not.contain("happening");
  });

  it("says how many models there are when they do not fit", () => {
    const models = Array.from({ length: 90 }, (_, index) => ({ ...MODEL!, name: `model-${index}` }));
    const lines = render({ offer: exampleOffer({ models }) });
    expect(lines).to.include("  … 90 models in all");
    expect(lines.at(-1)).to.equal("Ctrl-C stops the worker");
  });

  it("never shows what a model's name would do to a terminal", () => {
    const models = [{ ...MODEL!, name: "evil\u001b[2J\u0007name" }];
    expect(render({ offer: exampleOffer({ models }) }).join("")).to.not.contain("\u001b");
  });

  it("is never higher than the terminal", () => {
    const size = fc.record({
      columns: fc.integer({ min: 1, max: 200 }),
      rows: fc.integer({ min: 1, max: 60 }),
    });
    fc.assert(
      fc.property(
        size,
        fc.boolean(),
        fc.array(fc.string(), { maxLength: 60 }),
        (given, isStopping, texts) => {
          expect(render({}, { isStopping, texts, size: given }).length).to.be.at.most(given.rows);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("the layout of text in a terminal", () => {
  it("counts cells: two for wide letters, none for colours and marks", () => {
    expect(["abc", "模型", "é", "\u001b[32m●\u001b[39m", "🦙"].map(cellsOf)).to.deep.equal([3, 4, 1, 1, 2]);
  });

  it("cuts to so many cells, never through a wide letter or a colour", () => {
    expect(cutTo("llama", 5)).to.equal("llama");
    expect(cutTo("llama", 4)).to.equal("lla…");
    expect(cutTo("模型模型", 4)).to.equal("模…");
    expect(cutTo("\u001b[32mgreen\u001b[39m", 3)).to.equal("\u001b[32mgr…\u001b[0m");
    expect(cutTo("llama", 0)).to.equal("");
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 0, max: 40 }), (text, cells) => {
        expect(cellsOf(cutTo(text, cells))).to.be.at.most(cells);
      }),
    );
  });

  it("flows parts over lines", () => {
    const options = { indent: "  " };
    expect(flow(["one", "two", "three"], 40, options)).to.deep.equal(["  one · two · three"]);
    expect(flow(["one", "two", "three"], 12, options)).to.deep.equal(["  one · two", "  three"]);
    expect(flow(["one", "too long"], 6, options)).to.deep.equal(["  one", "  too…"]);
  });
});
