import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { startInTerminal } from "../support/terminal.ts";

/** A typed line, and what must and must not be among the words that may follow. */
const LINES: [line: string, offered: string[], withheld: string[]][] = [
  ["infernet ", ["wallet", "job", "completion"], ["submit", "--json"]],
  ["infernet wal", ["wallet"], ["job"]],
  ["infernet wallet ", ["fund", "import", "export"], ["submit", "wallet"]],
  ["infernet --json wallet f", ["fund"], ["export"]],
  ["infernet --home wallet job su", ["submit"], ["fund"]],
  ["infernet job submit --max", ["--max-tokens", "--max-usdc"], ["--model", "--json"]],
  ["infernet job submit --prompt wallet --js", ["--json"], ["--max-tokens"]],
  ["infernet nodes --log-level ", ["debug", "silent"], ["wallet"]],
  ["infernet completion ", ["bash", "zsh", "fish"], ["wallet"]],
  ["infernet job submit --model ", [], ["wallet", "submit"]],
];

/** Skips a test, and says so, where the machine has no such shell. */
function skipWithout(shell: string, test: Mocha.Context): void {
  if (spawnSync(shell, ["--version"]).status === 0) return;
  console.log(`\n!! SKIPPED: ${shell} is not installed here\n`);
  test.skip();
}

describe("infernet completion", function () {
  this.timeout(60_000);
  let user: CommandLine;
  const scripts: Record<string, string> = {};

  before(async () => {
    user = await createCommandLine();
    for (const shell of ["bash", "zsh", "fish"]) {
      const { exitCode, stdout, stderr } = await user.run(["completion", shell]);
      expect(exitCode, stderr).to.equal(0);
      scripts[shell] = join(user.home, `completion.${shell}`);
      writeFileSync(scripts[shell], stdout);
    }
    // Something by the name of infernet that a shell finds.
    writeFileSync(join(user.home, "infernet"), "#!/bin/sh\n");
    chmodSync(join(user.home, "infernet"), 0o755);
  });
  after(() => user.remove());

  it("offers in bash what may follow", () => {
    for (const [line, offered, withheld] of LINES) {
      const words = line.split(" ");
      const program = `source ${scripts.bash}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _infernet; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const answer = execFileSync("bash", ["-c", program, "bash", ...words], { encoding: "utf8" }).split(
        "\n",
      );
      expect(answer, line).to.include.members(offered);
      for (const word of withheld) expect(answer, line).to.not.include(word);
    }
  });

  it("completes in a real bash at the tab key, and files where a file belongs", async () => {
    writeFileSync(join(user.home, "question.txt"), "Why?");
    const shell = startInTerminal(["bash", "--norc", "--noprofile", "-i"], { cwd: user.home });
    shell.type(`PS1='ready> '; source ${scripts.bash}\r`);
    await shell.sees("ready> ");
    await shell.sees("ready> ");
    shell.type("infernet wall\tfu\t");
    await shell.sees("infernet wallet fund ");
    shell.type("\x15infernet job submit --file que\t");
    await shell.sees("--file question.txt ");
    shell.type("\x15infernet nodes --log-level=si\t");
    await shell.sees("--log-level=silent ");
    shell.type("\x15exit\r");
    expect((await shell.end()).exitCode).to.equal(0);
  });

  it("completes in a real zsh at the tab key, where there is one", async function () {
    skipWithout("zsh", this);
    const shell = startInTerminal(["zsh", "-f", "-i"], { cwd: user.home });
    shell.type(`PS1='ready> '; autoload -U compinit; compinit -u -D; source ${scripts.zsh}; echo lo''aded\r`);
    await shell.sees("loaded");
    await shell.sees("ready> ");
    shell.type("infernet wall\tfu\t--amou\t");
    // What zsh draws between the words differs; only what it adds tells that it completed.
    for (const word of ["wallet", "fund", "--amount"]) await shell.sees(word);
    shell.type("\x15infernet job submit --file que\t");
    await shell.sees("--file question.txt");
    shell.type("\x15exit\r");
    await shell.end();
  });

  it("offers in fish what may follow, where there is one", function () {
    skipWithout("fish", this);
    for (const [line, offered, withheld] of LINES) {
      const program = `source ${scripts.fish}; complete -C '${line}'`;
      const env = { ...process.env, HOME: user.home };
      const answer = execFileSync("fish", ["--no-config", "-c", program], { encoding: "utf8", env });
      const words = answer.split("\n").map((one) => one.split("\t")[0]!);
      expect(words, line).to.include.members(offered);
      for (const word of withheld) expect(words, line).to.not.include(word);
    }
  });

  it("refuses a shell that it does not know with 2", async () => {
    const { exitCode, stdout, stderr } = await user.run(["completion", "powershell"]);
    expect([exitCode, stdout]).to.deep.equal([2, ""]);
    expect(stderr).to.contain("bash, zsh, fish");
  });
});
