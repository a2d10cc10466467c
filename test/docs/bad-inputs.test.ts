// The table of bad inputs says what the code says, and names tests that there are.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect } from "chai";
import { ERROR_TABLE, isErrorCode } from "../../protocol/errors.ts";

const ROOT = resolve(import.meta.dirname, "../..");

type Row = { input: string; code: string; http: string; exit: string; heldBy: string };

function readTable(): Row[] {
  const page = readFileSync(resolve(ROOT, "docs/bad-inputs.md"), "utf8");
  const rows = page.split("\n").filter((line) => line.startsWith("| "));
  return rows.slice(1).map((line) => {
    const [input = "", code = "", http = "", exit = "", heldBy = ""] = line
      .slice(1, -1)
      .split("|")
      .map((cell) => cell.trim());
    return { input, code: code.replaceAll("`", ""), http, exit, heldBy };
  });
}

describe("docs/bad-inputs.md", () => {
  const table = readTable();

  it("has at least a row for each bad input that was asked for", () => {
    expect(table).to.have.length.above(40);
  });

  it("gives each code its HTTP status and its exit code", () => {
    for (const { input, code, http, exit } of table) {
      if (code === "") continue;
      if (!isErrorCode(code)) expect.fail(`${input}: there is no code ${code}`);
      const { status, exit: exitCode } = ERROR_TABLE[code];
      expect(`${http} ${exit}`, input).to.equal(`${status} ${exitCode}`);
    }
  });

  it("names for each row a test that there is", () => {
    for (const { input, heldBy } of table) {
      const file = resolve(ROOT, /^`(test\/[^`]+)`/.exec(heldBy)?.[1] ?? "none");
      expect(existsSync(file), `${input}: ${heldBy}`).to.equal(true);
      const titles = [...heldBy.matchAll(/"([^"]+)"/g)].map(([, title]) => title);
      expect(titles, input).not.to.be.empty;
      for (const title of titles) expect(readFileSync(file, "utf8"), input).to.contain(title);
    }
  });
});
