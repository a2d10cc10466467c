// A node's warm-up: every upstream that can load models ahead is asked, and none that fails stops the node.
import { expect } from "chai";
import { warmUp } from "../../provider/warm-up.ts";
import { createLogger } from "../../runtime/logger.ts";
import { ScriptedUpstream } from "../support/scripted-upstream.ts";

describe("the warm-up of a node", () => {
  const log = createLogger({ level: "silent" });
  const { signal } = new AbortController();

  it("asks each upstream for the models of the offer, and bears with one that fails or cannot", async () => {
    const asked: string[][] = [];
    const loading = Object.assign(new ScriptedUpstream([]), {
      warmUp: async (names: readonly string[]) => {
        asked.push([...names]);
        return [...names];
      },
    });
    const failing = Object.assign(new ScriptedUpstream([]), {
      warmUp: () => Promise.reject(new Error("no memory")),
    });
    const entries = [failing, new ScriptedUpstream([]), loading].map((upstream, index) => ({
      ...{ name: `${index}`, upstream, capacity: 1 },
    }));
    await warmUp(entries, ["a", "b"], { signal, log });
    expect(asked).to.deep.equal([["a", "b"]]);
  });
});
