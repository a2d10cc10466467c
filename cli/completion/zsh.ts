// Owns the completion script for zsh.
import { distinctFlags, type FlagWords, type ProgramWords, quote, scriptHead } from "./words.ts";

export function renderZsh(words: ProgramWords): string {
  const { commands, everywhere } = words;
  const flags = distinctFlags(words);
  const flagsOf = (kind: string) => flags.filter(({ value }) => value.kind === kind).map(({ flag }) => flag);
  const valued = flags.filter(({ value }) => value.kind !== "none").map(({ flag }) => flag);
  const choices = flags.flatMap(({ flag, value }) =>
    value.kind === "choice" ? [`    (${flag}) compadd -- ${value.choices.join(" ")}; return ;;`] : [],
  );
  const listOf = (flags: readonly FlagWords[]) =>
    flags.map(({ flag, summary }) => quote(`${flag}:${summary}`)).join(" ");
  const places = commands.map(({ place, subcommands, choices, flags }) => {
    const names = [
      ...subcommands.map(({ name, summary }) => quote(`${name}:${summary}`)),
      ...choices.map((choice) => quote(choice)),
    ].join(" ");
    return `    (${quote(place)}) names=(${names}) flags=(${listOf(flags)}) ;;`;
  });
  return `#compdef infernet
${scriptHead("zsh", "source <(infernet completion zsh), after compinit")}
_infernet() {
  local cur=\${words[CURRENT]} prev=\${words[CURRENT-1]} place='' word i
  local -a names flags
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    case $word in
      (${valued.join("|")}) ((i++)) ;;
      (-*) ;;
      (*) case "$place $word" in
        (${commands
          .slice(1)
          .map(({ place }) => quote(place))
          .join("|")}) place="$place $word" ;;
      esac ;;
    esac
  done
  case $prev in
${choices.join("\n")}
    (${flagsOf("file").join("|")}) _files; return ;;
    (${flagsOf("text").join("|")}) return ;;
  esac
  case $place in
${places.join("\n")}
  esac
  flags+=(${listOf(everywhere)})
  if [[ $cur == -* ]]; then _describe -o option flags; else _describe command names; fi
}
# Loaded from fpath this file is the function itself; sourced, it has to be made known.
if [[ $funcstack[1] == _infernet ]]; then _infernet "$@"; else compdef _infernet infernet; fi`;
}
