// Owns what there is to complete: the commands, flags and choices of the program, read from the program itself.
import type { Command, Option } from "commander";

/** What follows a flag: nothing that must, a file's name, one of some words, or a text that nobody can guess. */
export type FlagValue = { kind: "none" | "file" | "text" } | { kind: "choice"; choices: readonly string[] };
export type FlagWords = { flag: string; summary: string; value: FlagValue };

/** One command: `place` is its words with a space before each, empty for the program itself. */
export type CommandWords = {
  place: string;
  subcommands: readonly { name: string; summary: string }[];
  /** The words that its first argument may be. */
  choices: readonly string[];
  flags: readonly FlagWords[];
};

/** The flags of `everywhere` stand with every command. */
export type ProgramWords = { commands: readonly CommandWords[]; everywhere: readonly FlagWords[] };

export function collectWords(program: Command): ProgramWords {
  const isOfProgramAlone = ({ long }: Option) => long === "--version";
  const globals = program.options.filter((option) => !isOfProgramAlone(option));
  const help: FlagWords = {
    flag: "--help",
    summary: "show the help of this command",
    value: { kind: "none" },
  };
  const [root, ...others] = collectCommands(program, "");
  const own = program.options.filter(isOfProgramAlone).map(flagWords);
  return {
    commands: [{ ...root!, flags: own }, ...others],
    everywhere: [...globals.map(flagWords), help],
  };
}

/** Every flag once, for what does not depend on the command. */
export function distinctFlags({ commands, everywhere }: ProgramWords): FlagWords[] {
  const all = [...everywhere, ...commands.flatMap(({ flags }) => flags)];
  return [...new Map(all.map((words) => [words.flag, words])).values()];
}

/** A text that a shell takes as it is: all three quote alike but for the quote itself, which `escaped` stands for. */
export function quote(text: string, escaped = "'\\''"): string {
  return `'${text.replaceAll("'", escaped)}'`;
}

/** The lines that every script begins with. */
export function scriptHead(shell: string, load: string): string {
  return `# Completion of infernet for ${shell}, made by: infernet completion ${shell}\n# Load it: ${load}`;
}

function collectCommands(command: Command, place: string): CommandWords[] {
  const [argument] = command.registeredArguments;
  return [
    {
      place,
      subcommands: command.commands.map((one) => ({
        name: one.name(),
        summary: one.summary() || one.description(),
      })),
      choices: argument?.argChoices ?? [],
      flags: command.options.map(flagWords),
    },
    ...command.commands.flatMap((one) => collectCommands(one, `${place} ${one.name()}`)),
  ];
}

function flagWords({ long, description, required, argChoices, flags }: Option): FlagWords {
  const summary = description;
  const flag = long!;
  if (argChoices) return { flag, summary, value: { kind: "choice", choices: argChoices } };
  if (!required) return { flag, summary, value: { kind: "none" } };
  return { flag, summary, value: { kind: /<(path|folder)>/.test(flags) ? "file" : "text" } };
}
