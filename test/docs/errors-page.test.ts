// The page of errors says what the code says.
import { readFileSync } from "node:fs";
import { expect } from "chai";
import { ERROR_MEANINGS } from "../../protocol/error-meanings.ts";
import { ERROR_TABLE } from "../../protocol/errors.ts";
import { ERRORS_PAGE, renderErrorsPage } from "../../tools/errors-page.ts";

describe("docs/errors.md", () => {
  it("is what `npm run docs:errors` writes", () => {
    expect(readFileSync(ERRORS_PAGE, "utf8")).to.equal(renderErrorsPage());
  });

  it("says of every code in whole sentences what it means and what to do, in the table's order", () => {
    expect(Object.keys(ERROR_MEANINGS)).to.deep.equal(Object.keys(ERROR_TABLE));
    for (const [code, { meaning, remedy }] of Object.entries(ERROR_MEANINGS)) {
      expect(meaning, code).to.match(/^[A-Z][^|\n]+\.$/);
      expect(remedy, code).to.match(/^[A-Z][^|\n]+\.$/);
    }
  });
});
