import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect } from "chai";
import fc from "fast-check";
import {
  findStoreDamage,
  hasWalResetBug,
  openStore,
  openStoreToRead,
  type Store,
} from "../../runtime/store.ts";
import { isStoreLocked } from "../../runtime/store-lock.ts";
import { failureOf, killProcess, startProcess, temporaryFolder } from "../support/machine.ts";
import { holdsAsync } from "../support/properties.ts";

const COUNTERS = ["CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"];

describe("store", () => {
  let folder: string;
  let path: string;
  let store: Store;

  beforeEach(() => {
    folder = temporaryFolder();
    path = join(folder, "home", "store.db");
    store = openStore(path, COUNTERS);
  });
  afterEach(() => store.close());

  const put = (name: string, value: bigint | number = 1) =>
    store.db.prepare("INSERT INTO counters VALUES (?, ?)").run(name, value);
  const names = (db = store.db) =>
    db
      .prepare("SELECT name FROM counters ORDER BY rowid")
      .all()
      .map((row) => row.name);
  const pragma = (name: string) => Object.values(store.db.prepare(`PRAGMA ${name}`).get()!)[0];

  describe("opening", () => {
    it("keeps a write-ahead log, syncs every commit and holds foreign keys", () => {
      expect(pragma("journal_mode")).to.equal("wal");
      expect(pragma("synchronous")).to.equal(2);
      expect(pragma("foreign_keys")).to.equal(1);
    });

    it("makes files that only their owner can read, in a folder only they can enter", () => {
      store.close();
      store = openStore(path, COUNTERS, { exclusive: true });
      put("a");
      const modes = readdirSync(join(folder, "home")).map(
        (file) => statSync(join(folder, "home", file)).mode & 0o777,
      );
      expect(modes).to.deep.equal([0o600, 0o600, 0o600, 0o600]);
      expect(statSync(join(folder, "home")).mode & 0o777).to.equal(0o700);
    });

    it("runs each migration once, in order, and keeps what was there", () => {
      put("kept");
      store.close();
      const next = [
        ...COUNTERS,
        "ALTER TABLE counters ADD COLUMN note TEXT",
        "UPDATE counters SET note = name",
      ];
      for (let round = 0; round < 2; round++) {
        store.close();
        store = openStore(path, next);
      }
      expect(store.db.prepare("SELECT note FROM counters").all()).to.deep.equal([
        { __proto__: null, note: "kept" },
      ]);
      expect(pragma("user_version")).to.equal(3);
    });

    it("leaves no trace of migrations of which one fails", () => {
      store.close();
      expect(() => openStore(path, [...COUNTERS, "CREATE TABLE half (a)", "NO SQL"])).to.throw(
        "syntax error",
      );
      store = openStore(path, COUNTERS);
      expect(store.db.prepare("SELECT name FROM sqlite_schema WHERE name = 'half'").all()).to.have.length(0);
    });

    it("refuses a store that a newer version wrote, and leaves it as it is", async () => {
      store.db.exec("PRAGMA user_version = 9");
      const error = await failureOf(() => openStore(path, COUNTERS));
      expect(error.code).to.equal("store-unusable");
      expect(error.data).to.deep.equal({ schema: 9, known: 1 });
      expect(pragma("user_version")).to.equal(9);
    });

    it("refuses a file that is no store, and leaves it as it is", async () => {
      const other = join(folder, "notes.txt");
      writeFileSync(other, "these are notes, and they are quite long ".repeat(100));
      const error = await failureOf(() => openStore(other, COUNTERS));
      expect(error.code).to.equal("store-unusable");
      expect(error.message).to.contain("is not an Infernet store");
      expect(statSync(other).size).to.equal(4100);
    });

    it("says which path it cannot use", async () => {
      writeFileSync(join(folder, "file"), "");
      const error = await failureOf(() => openStore(join(folder, "file", "store.db"), COUNTERS));
      expect(error.code).to.equal("store-unusable");
      expect(error.hint).to.contain("INFERNET_HOME");
    });

    it("knows the SQLite versions that can lose commits", () => {
      for (const bad of ["3.7.0", "3.50.9", "3.51.2", "3.51"])
        expect(hasWalResetBug(bad), bad).to.equal(true);
      for (const good of ["3.51.3", "3.52.0", "3.53.4", "4.0.0"]) {
        expect(hasWalResetBug(good), good).to.equal(false);
      }
    });
  });

  describe("transact", () => {
    it("keeps all of a work or nothing", () => {
      const result = store.transact(() => {
        put("a");
        return "done";
      });
      expect(result).to.equal("done");
      const failing = () =>
        store.transact(() => {
          put("b");
          throw new Error("no");
        });
      expect(failing).to.throw("no");
      expect(names()).to.deep.equal(["a"]);
    });

    it("undoes a nested work alone when its failure is caught", () => {
      store.transact(() => {
        put("outer");
        const inner = () =>
          store.transact(() => {
            put("inner");
            throw new Error("no");
          });
        expect(inner).to.throw("no");
        put("after");
      });
      expect(names()).to.deep.equal(["outer", "after"]);
    });

    it("refuses a work that waits, and undoes it", () => {
      const waiting = () => store.transact(async () => put("a"));
      expect(waiting).to.throw("cannot wait");
      expect(names()).to.deep.equal([]);
    });

    it("refuses an amount that 63 bits do not hold", () => {
      const largest = 2n ** 63n - 1n;
      put("largest", largest);
      expect(() => put("larger", largest + 1n)).to.throw(/too large/);
      const select = store.db.prepare("SELECT value FROM counters");
      select.setReadBigInts(true);
      expect(select.get()!.value).to.equal(largest);
    });
  });

  describe("commitSoon", () => {
    it("puts all works of one turn into one commit", async () => {
      const statements: string[] = [];
      const exec = store.db.exec.bind(store.db);
      store.db.exec = (sql) => {
        statements.push(sql);
        exec(sql);
      };
      await Promise.all(Array.from({ length: 50 }, (_, index) => store.commitSoon(() => put(`n${index}`))));
      expect(statements.filter((sql) => sql === "COMMIT")).to.have.length(1);
      expect(names()).to.have.length(50);
    });

    it("undoes and rejects a throwing work alone", async () => {
      const outcomes = await Promise.allSettled([
        store.commitSoon(() => put("a")),
        store.commitSoon(() => {
          put("b");
          throw new Error("no");
        }),
        store.commitSoon(() => put("a")),
        store.commitSoon(() => put("c")),
      ]);
      expect(outcomes.map(({ status }) => status)).to.deep.equal([
        "fulfilled",
        "rejected",
        "rejected",
        "fulfilled",
      ]);
      expect(names()).to.deep.equal(["a", "c"]);
    });

    it("works in the order of the calls, before a later transact", async () => {
      const first = store.commitSoon(() => put("first"));
      store.transact(() => put("second"));
      const third = store.commitSoon(() => put("third"));
      await Promise.all([first, third]);
      expect(names()).to.deep.equal(["first", "second", "third"]);
    });

    it("resolves only once another connection sees the work", async () => {
      const other = new DatabaseSync(path);
      const committed = store.commitSoon(() => put("a"));
      expect(names(other)).to.deep.equal([]);
      await committed;
      expect(names(other)).to.deep.equal(["a"]);
      other.close();
    });

    it("commits what is queued when the store closes, and refuses works afterwards", async () => {
      const queued = store.commitSoon(() => put("a"));
      store.close();
      store.close();
      await queued;
      expect((await failureOf(() => store.commitSoon(() => put("b")))).code).to.equal("store-unusable");
      store = openStore(path, COUNTERS);
      expect(names()).to.deep.equal(["a"]);
    });

    it("equals running the works one by one, whichever of them throw", async () => {
      const work = fc.record({
        name: fc.constantFrom("a", "b", "c", "d"),
        throws: fc.boolean(),
        soon: fc.boolean(),
      });
      const property = fc.asyncProperty(fc.array(work, { maxLength: 12 }), async (works) => {
        store.db.exec("DELETE FROM counters");
        const model: string[] = [];
        const outcomes: Promise<unknown>[] = [];
        for (const { name, throws, soon } of works) {
          const run = () => {
            put(name);
            if (throws) throw new Error("no");
          };
          const succeeds = !throws && !model.includes(name);
          if (succeeds) model.push(name);
          const outcome = soon ? store.commitSoon(run) : (async () => store.transact(run))();
          outcomes.push(
            outcome.then(
              () => expect(succeeds).to.equal(true),
              () => expect(succeeds).to.equal(false),
            ),
          );
        }
        await Promise.all(outcomes);
        expect(names()).to.deep.equal(model);
      });
      await holdsAsync(property, 60);
    });
  });

  describe("a full disk", () => {
    beforeEach(() => {
      store.db.exec(`PRAGMA max_page_count = ${pragma("page_count")}`);
    });
    const putTooMuch = () => put("x".repeat(100_000));

    it("fails a transaction with a name and a hint, and keeps what was there", async () => {
      const error = await failureOf(() => store.transact(putTooMuch));
      expect([error.code, error.message]).to.deep.equal([
        "store-unusable",
        `${path} cannot grow: the disk is full`,
      ]);
      expect(error.hint).to.contain("Free some space");
      expect(names()).to.deep.equal([]);
    });

    it("tells every work of a group whether it was kept", async () => {
      const outcomes = await Promise.allSettled([
        store.commitSoon(() => put("small")),
        store.commitSoon(putTooMuch),
        store.commitSoon(() => put("other")),
      ]);
      const kept = ["small", "large", "other"].filter((_, index) => outcomes[index]!.status === "fulfilled");
      expect(names()).to.deep.equal(kept);
      expect(outcomes[1]).to.have.nested.property("reason.code", "store-unusable");
    });

    it("goes on once there is space again", async () => {
      await failureOf(() => store.commitSoon(putTooMuch));
      store.db.exec("PRAGMA max_page_count = 1000000");
      await store.commitSoon(putTooMuch);
      expect(names()).to.have.length(1);
    });
  });

  describe("backup", () => {
    it("copies a consistent state while the store is written to", async () => {
      const insert = store.db.prepare("INSERT INTO counters VALUES (?, 1)");
      store.transact(() => {
        for (let index = 0; index < 20_000; index++) insert.run(`row ${index}`);
      });
      let running = true;
      const writing = (async () => {
        for (let pair = 0; running; pair++) {
          await store.commitSoon(() => {
            insert.run(`left ${pair}`);
            insert.run(`right ${pair}`);
          });
        }
      })();
      const copyPath = join(folder, "copies", "copy.db");
      await store.backupTo(copyPath);
      running = false;
      await writing;
      expect(statSync(copyPath).mode & 0o777).to.equal(0o600);
      const copy = openStore(copyPath, COUNTERS);
      expect(names(copy.db).length).to.be.at.least(20_000);
      const sides = (side: string) => names(copy.db).filter((name) => String(name).startsWith(side)).length;
      expect(sides("left")).to.equal(sides("right"));
      expect(copy.db.prepare("PRAGMA integrity_check").get()).to.have.property("integrity_check", "ok");
      copy.close();
    });

    it("never overwrites a file, and leaves no draft", async () => {
      const copyPath = join(folder, "copy.db");
      await store.backupTo(copyPath);
      const error = await failureOf(() => store.backupTo(copyPath));
      expect(error.code).to.equal("bad-config");
      expect(readdirSync(folder).sort()).to.deep.equal(["copy.db", "home"]);
    });
  });
});

describe("a store and another process", () => {
  it("is exclusive until its holder dies, and loses nothing that was promised", async () => {
    const path = join(temporaryFolder(), "store.db");
    const holder = startProcess(`
      import { openStore } from "./runtime/store.ts";
      const store = openStore(${JSON.stringify(path)}, ${JSON.stringify(COUNTERS)}, { exclusive: true });
      await store.commitSoon(() => store.db.exec("INSERT INTO counters VALUES ('promised', 1)"));
      console.log("holding");
      store.db.exec("BEGIN IMMEDIATE; INSERT INTO counters VALUES ('unfinished', 1)");
      console.log("writing");
      setInterval(() => {}, 1000);
    `);
    await holder.saidLine("writing");
    const error = await failureOf(() => openStore(path, COUNTERS, { exclusive: true }));
    expect(error.code).to.equal("store-locked");
    expect(error.hint).to.not.equal("");
    const reader = openStore(path, COUNTERS);
    expect(reader.db.prepare("SELECT name FROM counters").all()).to.have.length(1);
    reader.close();

    await killProcess(holder);
    const store = openStore(path, COUNTERS, { exclusive: true });
    expect(store.db.prepare("SELECT name FROM counters").all()).to.deep.equal([
      { __proto__: null, name: "promised" },
    ]);
    store.close();
  });

  it("can be opened again by the same process once it is closed, not before", async () => {
    const path = join(temporaryFolder(), "store.db");
    const first = openStore(path, COUNTERS, { exclusive: true });
    expect((await failureOf(() => openStore(path, COUNTERS, { exclusive: true }))).code).to.equal(
      "store-locked",
    );
    first.close();
    openStore(path, COUNTERS, { exclusive: true }).close();
  });

  it("is not held by an opening that failed", async () => {
    const path = join(temporaryFolder(), "store.db");
    openStore(path, [...COUNTERS, "SELECT 1"]).close();
    expect((await failureOf(() => openStore(path, COUNTERS, { exclusive: true }))).code).to.equal(
      "store-unusable",
    );
    openStore(path, [...COUNTERS, "SELECT 1"], { exclusive: true }).close();
  });

  it("is read beside its holder by who asks for reading alone, and never written, created or migrated", async () => {
    const path = join(temporaryFolder(), "store.db");
    expect((await failureOf(() => openStoreToRead(path, COUNTERS))).code).to.equal("store-unusable");
    expect(existsSync(path)).to.equal(false);
    const holder = openStore(path, COUNTERS, { exclusive: true });
    holder.transact(() => holder.db.exec("INSERT INTO counters VALUES ('kept', 1)"));
    expect(isStoreLocked(path)).to.equal(true);
    const reader = openStoreToRead(path, COUNTERS);
    expect(reader.db.prepare("SELECT name FROM counters").all()).to.have.length(1);
    expect(findStoreDamage(reader)).to.deep.equal([]);
    const write = () => reader.transact(() => reader.db.exec("DELETE FROM counters"));
    expect((await failureOf(write)).message).to.contain("read-only");
    reader.close();
    for (const schema of [[], [...COUNTERS, "SELECT 1"]]) {
      expect((await failureOf(() => openStoreToRead(path, schema))).code).to.equal("store-unusable");
    }
    holder.close();
    expect(isStoreLocked(path)).to.equal(false);
  });
});
