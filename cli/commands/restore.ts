// Owns `infernet restore`: a backup becomes this machine's home folder.
import { Argument } from "commander";
import type { BackedUpFile } from "../../runtime/backup.ts";
import type { CommandSpec } from "../command.ts";

type Result = { home: string; createdAt: string; version: string; files: BackedUpFile[]; next: string[] };

export const restoreCommand: CommandSpec<{ folder: string }, Result> = {
  name: "restore",
  summary: "Put a backup into a home folder that has none of its files",
  arguments: [new Argument("<folder>", "what `infernet backup` made")],
  examples: ["restore infernet-backup --home ./new-home"],
  async run(context, { folder }) {
    const { home } = await context.config();
    const { restoreBackup } = await import("../../runtime/backup.ts");
    const { createdAt, version, files } = await restoreBackup(folder, home);
    return { home, createdAt, version, files, next: nextSteps(files) };
  },
  render: ({ home, createdAt, files, next }) =>
    [`Restored ${files.length} files of ${createdAt} into ${home}.`, ...next].join("\n"),
};

/** What a restored home must not do beside the old one, and what brings its money home. */
function nextSteps(files: readonly BackedUpFile[]): string[] {
  const has = (name: BackedUpFile["name"]) => files.some((file) => file.name === name);
  return [
    ...(has("node.json")
      ? [
          "Stop `infernet worker` on the old machine for good before you start it here: two workers on one node key would settle and serve the same jobs.",
          "Then: infernet worker. It settles what the receipts cover. At another address, first: infernet node update --endpoint URL.",
        ]
      : []),
    ...(has("wallet.json")
      ? ["Do not submit jobs from the old machine any more. infernet job recover ends what it left behind."]
      : []),
  ];
}
