// Owns `infernet completion`: the script by which a shell completes infernet's words.
import { Argument, type Command } from "commander";
import type { CommandSpec } from "../command.ts";
import { renderBash } from "../completion/bash.ts";
import { renderFish } from "../completion/fish.ts";
import { collectWords } from "../completion/words.ts";
import { renderZsh } from "../completion/zsh.ts";

const RENDERERS = { bash: renderBash, zsh: renderZsh, fish: renderFish };
type Shell = keyof typeof RENDERERS;

/** `programOf` gives the whole program, which is not built yet when the command is. */
export function completionCommand(
  programOf: () => Command,
): CommandSpec<{ shell: Shell }, { shell: Shell; script: string }> {
  return {
    name: "completion",
    summary: "Print the script that completes infernet's words in a shell",
    arguments: [new Argument("<shell>", "the shell").choices(Object.keys(RENDERERS))],
    examples: ["completion bash", "completion zsh", "completion fish"],
    run: async (_context, { shell }) => ({ shell, script: RENDERERS[shell](collectWords(programOf())) }),
    render: ({ script }) => script,
  };
}
