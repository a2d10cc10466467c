// Owns `infernet backup`: a consistent copy of the home folder, written while a worker runs.
import { Argument } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import type { BackedUpFile } from "../../runtime/backup.ts";
import type { CommandSpec } from "../command.ts";
import { formatTable } from "../output.ts";

type Result = { folder: string; createdAt: string; files: BackedUpFile[] };

export const backupCommand: CommandSpec<{ folder: string }, Result> = {
  name: "backup",
  summary: "Copy keys, settings and ledgers into a new folder, also while a worker runs",
  arguments: [new Argument("<folder>", "a folder that does not exist yet")],
  examples: ["backup infernet-backup", "backup infernet-backup --json"],
  async run(context, { folder }) {
    const { home } = await context.config();
    const { createBackup } = await import("../../runtime/backup.ts");
    const { createdAt, files } = await createBackup(home, folder, packageJson.version);
    return { folder, createdAt, files };
  },
  render({ folder, files }, style) {
    const table = formatTable(files.map(({ name, bytes }) => [name, style.dim(`${bytes} bytes`)]));
    return `${table}\nBacked up to ${folder}. It opens with the same passphrases; receipts that come later are not in it, so make the next one soon.`;
  },
};
