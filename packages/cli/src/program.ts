// The commands with their options and help. Each command's code is imported when it runs, so that `wick --help` is quick.
import { Command, Option } from "commander";
import type { ExitCode } from "./cli-error.ts";
import type { GenerateOptions } from "./commands/generate.ts";
import { embeddedName } from "./models/embedded.ts";
import { deviceNames } from "./open-device.ts";
import { decimalNumber, seedNumber, sigmaList, wholeNumber } from "./option-types.ts";
import { previewKinds } from "./preview-kinds.ts";
import { version } from "./version.ts";

/** What a command gets from the process around it. */
export interface Surroundings {
  readonly signal: AbortSignal;
  readonly setExitCode: (code: ExitCode) => void;
}

/** All commands. */
export const commandNames: readonly string[] = ["generate"];

/** Formats that weights can be held in on a device. */
const weightDTypes = [
  "f32",
  "f16",
  "bf16",
  "f8e4m3",
  "q8_0",
  "q5_1",
  "q5_0",
  "q4_1",
  "q4_0",
  "q6_K",
  "q5_K",
  "q4_K",
  "q3_K",
  "q2_K",
] as const;

/** The whole command line. */
export function buildProgram(around: Surroundings): Command {
  const program = new Command("wick")
    .description("Draws pictures with diffusion transformers (FLUX, Z-Image), and looks into their checkpoints.")
    .version(`wick ${version}`, "-v, --version")
    .usage("<command> [options]")
    .showSuggestionAfterError(true)
    .addHelpText("after", programHelp);
  for (const add of [addGenerate]) add(program, around);
  for (const command of [program, ...program.commands]) quietly(command);
  return program;
}

/** Errors are reported by `run`, in one line. */
function quietly(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => {} });
}

/** Adds what every command has. */
function common(command: Command): Command {
  return command
    .option("--json", "print the result as one JSON document")
    .option("-q, --quiet", "print nothing but errors")
    .option("--debug", "show the stack of an error");
}

function deviceOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--device <name>", "where to compute; auto is a hardware GPU, or else the CPU").choices(deviceNames).default("auto"),
    )
    .option("--adapter <name>", "part of a GPU's name, when there are several (wick doctor lists them)");
}

function modelOptions(command: Command): Command {
  return command
    .option("-m, --model <model>", `${embeddedName}, a Hugging Face repository or a folder in diffusers layout`, embeddedName)
    .option("--revision <name>", "branch, tag or commit of the repository (default: main)")
    .option("--offline", "use downloaded files only")
    .option("--cache-dir <folder>", "where downloads are kept (default: as the Python library, HF_HOME)")
    .option("--retries <count>", "failures in a row after which a download gives up (default: 5)", wholeNumber(0, 100))
    .addOption(new Option("--dtype <format>", "format of the transformer's weights in memory (default: as stored)").choices(weightDTypes))
    .addOption(
      new Option("--text-encoder-dtype <format>", "format of the text encoder's weights (default: as stored)").choices(weightDTypes),
    );
}

function addGenerate(program: Command, { signal }: Surroundings): void {
  const command = program
    .command("generate")
    .alias("g")
    .argument("[prompt...]", "what to draw")
    .description("draw a picture from a prompt");
  modelOptions(command)
    .option("-o, --out <file.png>", "where to write (default: a name made from the prompt); several pictures are numbered")
    .option("-W, --width <pixels>", "multiple of 16 (default: the model's)", wholeNumber(8, 8192))
    .option("-H, --height <pixels>", "multiple of 16 (default: the model's)", wholeNumber(8, 8192))
    .option("-s, --steps <count>", "denoising steps (default: the model's)", wholeNumber(1, 1000))
    .option("-g, --guidance <scale>", "how strongly to follow the prompt; 0 is off (default: the model's)", decimalNumber(0))
    .option("-n, --negative <prompt>", "what to steer away from, with guidance")
    .option("--seed <number>", "where the noise comes from: a whole number, or random", seedNumber, 0)
    .addOption(
      new Option("--rng <kind>", "PyTorch's generator to draw noise as (default: torch-cpu)").choices(["torch-cpu", "torch-cpu-legacy"]),
    )
    .option("-c, --count <number>", "pictures of the same prompt", wholeNumber(1, 64), 1)
    .option("--solver <name>", "how steps are taken (default: euler)")
    .option("--sigmas <list>", "noise levels, comma-separated and decreasing, instead of --steps", sigmaList)
    .addOption(new Option("--preview <kind>", "picture in the terminal while it is made").choices(previewKinds).default("auto"))
    .option("--list", "list the prompts that the embedded model knows");
  deviceOptions(command);
  common(command).addHelpText("after", generateHelp);
  command.action(async (words: string[], options: GenerateOptions & { list?: boolean }) => {
    if (options.list) return (await import("./commands/list-names.ts")).listNames(options);
    await (await import("./commands/generate.ts")).generate(words, options, signal);
  });
}

const programHelp = `
Examples:
  wick generate "a red apple"                      a picture, with the small model that comes along
  wick generate "a lighthouse in fog" -m Tongyi-MAI/Z-Image-Turbo --dtype q8_0

wick <command> --help shows the options of a command, with examples.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 compared and found different, 130 stopped by Ctrl-C.`;

const generateHelp = `
Examples:
  wick generate "a red apple"
  wick generate "a red apple" --seed 7 --steps 20 --guidance 4 --out apple.png
  wick generate "a fox" --count 4 --json | jq -r '.pictures[].file'
  wick generate "a cat" --seed random --device cpu
  wick generate --list                             prompts the embedded model knows
  wick generate "a lighthouse in fog" --model Tongyi-MAI/Z-Image-Turbo --dtype q8_0 --width 1024 --height 768

The PNG remembers prompt, seed, every setting, the model's revision and the hashes of its files.`;
