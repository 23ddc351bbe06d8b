// wick completion: scripts that teach bash, zsh and fish the commands and options, made from the program itself.
import type { Command } from "commander";

/** Shells that completion is written for. */
export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

interface Completed {
  readonly name: string;
  readonly description: string;
  readonly options: readonly CompletedOption[];
  /** What the first argument may be, when that is a list. */
  readonly choices: readonly string[];
}

interface CompletedOption {
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** The script for a shell. */
export function completionScript(shell: Shell, program: Command): string {
  const commands = program.commands.map(describe);
  return { bash, zsh, fish }[shell](commands);
}

function describe(command: Command): Completed {
  const options = command.options.map((option) => ({
    flags: [option.short, option.long].filter((flag): flag is string => flag !== undefined),
    description: option.description,
    takesValue: option.required,
    choices: option.argChoices ?? [],
  }));
  return { name: command.name(), description: command.description(), options, choices: command.registeredArguments[0]?.argChoices ?? [] };
}

const longFlags = (command: Completed): string => command.options.flatMap((option) => option.flags).join(" ");

function bash(commands: readonly Completed[]): string {
  const choices = commands.flatMap((c) => c.options.filter((o) => o.choices.length > 0));
  const values = [...new Map(choices.map((o) => [o.flags.join("|"), o.choices.join(" ")]))];
  return `# wick completion for bash: eval "$(wick completion bash)"
_wick() {
  local word="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "${commands.map((c) => c.name).join(" ")}" -- "$word")); return; fi
  case "$previous" in
${values.map(([flags, list]) => `    ${flags}) COMPREPLY=($(compgen -W "${list}" -- "$word")); return ;;`).join("\n")}
  esac
  case "\${COMP_WORDS[1]}" in
${commands.map((c) => `    ${c.name}) ${c.choices.length > 0 ? "" : '[[ "$word" == -* ]] && '}COMPREPLY=($(compgen -W "${[longFlags(c), ...c.choices].join(" ").trim()}" -- "$word")) ;;`).join("\n")}
  esac
}
complete -o default -F _wick wick`;
}

function zsh(commands: readonly Completed[]): string {
  const quoted = (text: string) => text.replace(/'/g, "'\\''").replace(/[[\]:]/g, "\\$&");
  const values = (o: CompletedOption) => (o.choices.length > 0 ? `:value:(${o.choices.join(" ")})` : o.takesValue ? ":value:_files" : "");
  const option = (o: CompletedOption) => `'${o.flags.at(-1)}[${quoted(o.description)}]${values(o)}'`;
  const rest = (c: Completed) => (c.choices.length > 0 ? `'1:what:(${c.choices.join(" ")})'` : "'*:file:_files'");
  const entry = (c: Completed) => `    ${c.name}) _arguments ${[...c.options.map(option), rest(c)].join(" ")} ;;`;
  return `#compdef wick
# wick completion for zsh: eval "$(wick completion zsh)"
_wick() {
  if (( CURRENT == 2 )); then
    local -a commands=(${commands.map((c) => `'${c.name}:${quoted(c.description)}'`).join(" ")})
    _describe command commands
    return
  fi
  local command="$words[2]"
  shift words; (( CURRENT-- ))
  case "$command" in
${commands.map(entry).join("\n")}
  esac
}
compdef _wick wick`;
}

function fish(commands: readonly Completed[]): string {
  const quoted = (text: string) => `'${text.replace(/\\/g, "\\\\").replace(/'/g, "\\'")}'`;
  const flag = (text: string) => (text.startsWith("--") ? `-l ${text.slice(2)}` : `-s ${text.slice(1)}`);
  const values = (o: CompletedOption) => (o.choices.length > 0 ? ` -x -a ${quoted(o.choices.join(" "))}` : o.takesValue ? " -r" : "");
  const option = (c: Completed) => (o: CompletedOption) =>
    `complete -c wick -n '__fish_seen_subcommand_from ${c.name}' ${o.flags.map(flag).join(" ")} -d ${quoted(o.description)}${values(o)}`;
  const lines = commands.flatMap((c) => [
    `complete -c wick -n __fish_use_subcommand -a ${c.name} -d ${quoted(c.description)}`,
    ...(c.choices.length > 0 ? [`complete -c wick -n '__fish_seen_subcommand_from ${c.name}' -f -a ${quoted(c.choices.join(" "))}`] : []),
    ...c.options.map(option(c)),
  ]);
  return ["# wick completion for fish: wick completion fish | source", ...lines].join("\n");
}
