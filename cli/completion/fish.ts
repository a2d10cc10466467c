// Owns the completion script for fish.
import { distinctFlags, type FlagWords, type ProgramWords, quote, scriptHead } from "./words.ts";

export function renderFish(words: ProgramWords): string {
  const { commands, everywhere } = words;
  const valued = distinctFlags(words).filter(({ value }) => value.kind !== "none");
  const lines = commands.flatMap(({ place, subcommands, choices, flags }) => {
    const here = `-n ${quoteFish(`__infernet_at "${place}"`)}`;
    return [
      ...subcommands.map(
        ({ name, summary }) => `complete -c infernet ${here} -a ${name} -d ${quoteFish(summary)}`,
      ),
      ...choices.map((choice) => `complete -c infernet ${here} -a ${choice}`),
      ...flags.map((flag) => `complete -c infernet ${here} ${renderFlag(flag)}`),
    ];
  });
  return `${scriptHead("fish", "infernet completion fish | source")}
function __infernet_at
    set -l place ''
    set -l skips 0
    for word in (commandline -opc)[2..]
        if test $skips -eq 1
            set skips 0
            continue
        end
        switch $word
            case ${valued.map(({ flag }) => flag).join(" ")}
                set skips 1
            case '-*'
            case '*'
                if contains -- "$place $word" ${commands
                  .slice(1)
                  .map(({ place }) => quoteFish(place))
                  .join(" ")}
                    set place "$place $word"
                end
        end
    end
    test "$place" = "$argv[1]"
end
complete -c infernet -f
${[...everywhere.map((flag) => `complete -c infernet ${renderFlag(flag)}`), ...lines].join("\n")}`;
}

function renderFlag({ flag, summary, value }: FlagWords): string {
  const named = `-l ${flag.slice(2)} -d ${quoteFish(summary)}`;
  if (value.kind === "none") return named;
  if (value.kind === "file") return `${named} -r -F`;
  return value.kind === "choice" ? `${named} -x -a ${quoteFish(value.choices.join(" "))}` : `${named} -x`;
}

/** Fish takes a backslash before a quote, inside quotes too. */
function quoteFish(text: string): string {
  return quote(text.replaceAll("\\", "\\\\"), "\\'");
}
