import { expect } from "chai";
import { readOllamaHost } from "../../cli/upstream-flags.ts";

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
