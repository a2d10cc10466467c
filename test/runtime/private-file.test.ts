import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { createPrivateFile, readPrivateFile, touchPrivateFile } from "../../runtime/private-file.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";

describe("private file", () => {
  let folder: string;
  beforeEach(() => {
    folder = temporaryFolder();
  });

  it("is whole once it has its name, and its owner's alone whatever the draft's mode became", async () => {
    const path = join(folder, "new", "file");
    await createPrivateFile(path, async (draft) => {
      expect(() => statSync(path)).to.throw("ENOENT");
      writeFileSync(draft, "contents");
    });
    expect(readPrivateFile(path)).to.equal("contents");
    expect(statSync(path).mode & 0o777).to.equal(0o600);
    expect(statSync(join(folder, "new")).mode & 0o777).to.equal(0o700);
  });

  it("leaves nothing behind when what fills it fails", async () => {
    const failing = createPrivateFile(join(folder, "file"), async (draft) => {
      writeFileSync(draft, "half");
      throw new RangeError("no");
    });
    expect(await failing.catch((error) => error)).to.be.instanceOf(RangeError);
    expect(readdirSync(folder)).to.deep.equal([]);
  });

  it("never replaces a file", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "old");
    expect((await failureOf(() => createPrivateFile(path, "new"))).message).to.contain("is not overwritten");
    touchPrivateFile(path);
    expect(readFileSync(path, "utf8")).to.equal("old");
    expect(readdirSync(folder)).to.deep.equal(["file"]);
  });

  it("is told apart from a folder and from nothing", async () => {
    const path = join(folder, "folder");
    mkdirSync(path);
    expect((await failureOf(() => readPrivateFile(path))).message).to.contain("EISDIR");
    expect((await failureOf(() => createPrivateFile(join(path, "x".repeat(300)), ""))).message).to.contain(
      "ENAMETOOLONG",
    );
    expect(readPrivateFile(join(folder, "none"))).to.equal(undefined);
  });
});
