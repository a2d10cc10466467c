// Owns the completion script for bash.
import { distinctFlags, type ProgramWords, quote, scriptHead } from "./words.ts";

export function renderBash(words: ProgramWords): string {
  const { commands, everywhere } = words;
  const flags = distinctFlags(words);
  const flagsOf = (kind: string) => flags.filter(({ value }) => value.kind === kind).map(({ flag }) => flag);
  const valued = flags.filter(({ value }) => value.kind !== "none").map(({ flag }) => flag);
  const choices = flags.flatMap(({ flag, value }) =>
    value.kind === "choice" ? [`    ${flag}) list=${quote(value.choices.join(" "))} ;;`] : [],
  );
  const places = commands.map(({ place, subcommands, choices, flags }) => {
    const names = [...subcommands.map(({ name }) => name), ...choices].join(" ");
    const own = flags.map(({ flag }) => flag).join(" ");
    return `    ${quote(place)}) names=${quote(names)} flags=${quote(own)} ;;`;
  });
  return `${scriptHead("bash", "source <(infernet completion bash)")}
_infernet() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} place='' word i list='' names flags
  # Bash takes --flag=value apart into three words.
  if [[ $cur == = ]]; then cur=''; elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $word in
      ${valued.join("|")}) ((i++)) ;;
      -*) ;;
      *) case "$place $word" in
        ${commands
          .slice(1)
          .map(({ place }) => quote(place))
          .join("|")}) place="$place $word" ;;
      esac ;;
    esac
  done
  COMPREPLY=()
  case $prev in
${choices.join("\n")}
    ${flagsOf("file").join("|")}) compopt -o default 2>/dev/null; return ;;
    ${flagsOf("text").join("|")}) return ;;
  esac
  if [[ -z $list ]]; then
    case $place in
${places.join("\n")}
    esac
    if [[ $cur == -* ]]; then list="$flags ${everywhere.map(({ flag }) => flag).join(" ")}"; else list=$names; fi
  fi
  mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur")
}
complete -F _infernet infernet`;
}
