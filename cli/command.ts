// Owns the shape that every command has, and how one is hung into commander.
import type { Argument, Command, Option } from "commander";
import type { Context } from "./context.ts";
import type { Style } from "./output.ts";

/** What a command is: its words, its options, what it does, and how its result reads to a person. */
export type CommandSpec<Options extends object, Result extends object | undefined> = {
  name: string;
  summary: string;
  arguments?: readonly Argument[];
  options?: readonly Option[];
  /** Command lines that work, without the leading `infernet`. */
  examples: readonly string[];
  /** Does the work. Arguments arrive among the options, under their names. An undefined result prints nothing. */
  run(context: Context, options: Options): Promise<Result>;
  render(result: NonNullable<Result>, style: Style): string;
};

/** Starts the action of a parsed command; `main` gives one that knows terminal and process. */
export type Launch = (
  globals: Record<string, unknown>,
  act: (context: Context) => Promise<void>,
) => Promise<void>;

/** Adds a command below `parent`, and returns it for those below itself. */
export function addCommand<Options extends object, Result extends object | undefined>(
  parent: Command,
  spec: CommandSpec<Options, Result>,
  launch: Launch,
): Command {
  const command = parent.command(spec.name).summary(spec.summary).description(spec.summary);
  for (const argument of spec.arguments ?? []) command.addArgument(argument);
  for (const option of spec.options ?? []) command.addOption(option);
  command.addHelpText("after", formatExamples(spec.examples));
  command.action(async () => {
    const named = command.registeredArguments.map((argument, index) => [
      argument.name(),
      command.processedArgs[index],
    ]);
    // A flag that the command above has, too, is parsed as that one's.
    const given = command.optsWithGlobals();
    const flags = command.options.map((option) => option.attributeName()).filter((name) => name in given);
    const own = flags.map((name) => [name, given[name]]);
    // What commander parsed has exactly the shape that the spec's own options and arguments give it.
    const options = Object.fromEntries([...own, ...named]) as Options;
    const act = async (context: Context) => {
      const result = await spec.run(context, options);
      if (result) context.output.result(result, (style) => spec.render(result, style));
    };
    await launch(command.optsWithGlobals(), act);
  });
  return command;
}

/** The EXAMPLE section of a help text. */
export function formatExamples(examples: readonly string[]): string {
  return `\nEXAMPLE${examples.map((example) => `\n  $ infernet ${example}`).join("")}`;
}
