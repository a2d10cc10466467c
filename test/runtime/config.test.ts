import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { z } from "zod";
import {
  environmentSource,
  flagSource,
  loadConfig,
  readConfigFile,
  readPassphraseSource,
  resolveSettings,
} from "../../runtime/config.ts";
import { homeFolder, homePaths } from "../../runtime/home.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";

const ADDRESS = `0x${"aB".repeat(20)}`;

describe("config", () => {
  let home: string;
  let env: Record<string, string | undefined>;

  beforeEach(() => {
    home = temporaryFolder();
    env = { INFERNET_HOME: home };
  });
  const writeFile = (contents: unknown) =>
    writeFileSync(
      join(home, "config.json"),
      typeof contents === "string" ? contents : JSON.stringify(contents),
    );

  it("is the local chain where nothing is set", () => {
    expect(loadConfig({}, env)).to.deep.equal({
      home,
      rpcUrl: "http://127.0.0.1:8545",
      chainId: 31_337,
      logLevel: "info",
      allowPrivate: false,
    });
  });

  it("takes flags over environment over file over the command's defaults", () => {
    const all = {
      rpcUrl: "http://flag",
      env: "http://environment",
      file: "http://file",
      default: "http://default",
    };
    expect(loadConfig({}, env, { rpcUrl: all.default }).rpcUrl).to.equal(all.default);
    writeFile({ rpcUrl: all.file });
    expect(loadConfig({}, env, { rpcUrl: all.default }).rpcUrl).to.equal(all.file);
    env.INFERNET_RPC_URL = all.env;
    expect(loadConfig({}, env).rpcUrl).to.equal(all.env);
    expect(loadConfig({ rpcUrl: all.rpcUrl }, env).rpcUrl).to.equal(all.rpcUrl);
  });

  it("reads numbers and addresses from the environment, addresses in lower case", () => {
    Object.assign(env, {
      INFERNET_CHAIN_ID: "8453",
      INFERNET_ESCROW: ADDRESS,
      INFERNET_DEPLOYMENT_FOLDER: "here",
    });
    expect(loadConfig({}, env)).to.include({
      chainId: 8453,
      escrow: ADDRESS.toLowerCase(),
      deploymentFolder: "here",
    });
  });

  it("takes flags as a command line gives them: texts, and undefined for what was not said", () => {
    const flags = { chainId: "8453", rpcUrl: undefined, home: undefined };
    expect(loadConfig(flags, env)).to.include({ chainId: 8453, rpcUrl: "http://127.0.0.1:8545", home });
    expect(loadConfig({ home: "/elsewhere" }, env).home).to.equal("/elsewhere");
  });

  it("takes an empty variable as absent, and leaves out what is not set", () => {
    Object.assign(env, { INFERNET_CHAIN_ID: "", INFERNET_ESCROW: "" });
    expect(loadConfig({}, env)).to.include({ chainId: 31_337 }).and.to.not.have.property("escrow");
  });

  it("names the source and the key of what is wrong", async () => {
    const told = async (act: () => unknown) => {
      const error = await failureOf(act);
      expect(error.code).to.equal("bad-config");
      return error.message;
    };
    expect(await told(() => loadConfig({ chainId: -1 }, env))).to.contain("flags: --chain-id:");
    const wrong = { ...env, INFERNET_RPC_URL: "localhost" };
    expect(await told(() => loadConfig({}, wrong))).to.contain(
      "environment: INFERNET_RPC_URL: expected an http",
    );
    expect(await told(() => loadConfig({}, { ...env, INFERNET_CHAIN_ID: "base" }))).to.contain(
      "expected a number",
    );
    writeFile({ escrow: "0x12" });
    expect(await told(() => loadConfig({}, env))).to.contain(
      `${join(home, "config.json")}: escrow: expected an address`,
    );
    for (const contents of [{ rpcURL: "x" }, { home: "/" }]) {
      writeFile(contents);
      expect(await told(() => loadConfig({}, env))).to.contain(
        `"${Object.keys(contents)[0]}" is not a setting`,
      );
    }
    for (const contents of ["not JSON", "[]", "5"]) {
      writeFile(contents);
      expect(await told(() => loadConfig({}, env))).to.contain("is not a JSON object");
    }
  });

  it("leaves the actors' sections of the file to them", () => {
    writeFile({ provider: { port: 1 }, chainId: 5 });
    expect(loadConfig({}, env)).to.include({ chainId: 5 }).and.to.not.have.property("provider");
    expect(readConfigFile(home)).to.deep.equal({ provider: { port: 1 }, chainId: 5 });
  });

  it("resolves an actor's own settings by the same rules", async () => {
    const settings = { port: z.coerce.number().int().max(65_535), host: z.string().default("127.0.0.1") };
    const sources = [
      flagSource({ port: undefined }),
      environmentSource({ INFERNET_PORT: "99999" }, ["port", "host"]),
    ];
    const error = await failureOf(() => resolveSettings(settings, sources));
    expect(error.message).to.contain("environment: INFERNET_PORT");
    expect(resolveSettings(settings, [flagSource({ port: 5 }), ...sources])).to.deep.equal({
      port: 5,
      host: "127.0.0.1",
    });
    expect((await failureOf(() => resolveSettings(settings, []))).message).to.contain("settings: port");
  });
});

describe("home", () => {
  it("is INFERNET_HOME, else the user's data folder for infernet", () => {
    expect(homeFolder({ INFERNET_HOME: "/somewhere" })).to.equal("/somewhere");
    expect(homeFolder({})).to.match(/infernet/);
    expect(homeFolder({ INFERNET_HOME: "" })).to.equal(homeFolder({}));
  });

  it("has a name of its own for each file", () => {
    const paths = Object.values(homePaths("/home"));
    expect(new Set(paths).size).to.equal(paths.length);
    for (const path of paths) expect(path.startsWith("/home/")).to.equal(true);
  });
});

describe("passphrase source", () => {
  it("is the variable, else the file's text without its last line break, else nothing", () => {
    const path = join(temporaryFolder(), "passphrase");
    writeFileSync(path, " with spaces \n");
    expect(readPassphraseSource({})).to.equal(undefined);
    expect(readPassphraseSource({ INFERNET_PASSPHRASE_FILE: path })).to.equal(" with spaces ");
    expect(readPassphraseSource({ INFERNET_PASSPHRASE: "said", INFERNET_PASSPHRASE_FILE: path })).to.equal(
      "said",
    );
    chmodSync(path, 0o444);
    expect(readPassphraseSource({ INFERNET_PASSPHRASE_FILE: path })).to.equal(" with spaces ");
  });

  it("says when the file cannot be read", async () => {
    const folder = join(temporaryFolder(), "folder");
    mkdirSync(folder);
    for (const path of [folder, join(folder, "none")]) {
      const error = await failureOf(() => readPassphraseSource({ INFERNET_PASSPHRASE_FILE: path }));
      expect(error.code).to.equal("bad-config");
      expect(error.message).to.contain(path);
    }
  });
});
