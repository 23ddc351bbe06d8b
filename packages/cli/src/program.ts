// The commands with their options and help. Each command's code is imported when it runs, so that `wick --help` is quick.
import { Argument, Command, Option } from "commander";
import type { ExitCode } from "./cli-error.ts";
import type { BenchOptions } from "./commands/bench.ts";
import type { CompareOptions } from "./commands/compare.ts";
import { completionScript, type Shell, shells } from "./commands/completion.ts";
import type { ConvertOptions } from "./commands/convert.ts";
import type { DoctorOptions } from "./commands/doctor.ts";
import type { GenerateOptions } from "./commands/generate.ts";
import type { InspectOptions } from "./commands/inspect.ts";
import type { ReproduceOptions } from "./commands/reproduce.ts";
import { embeddedName } from "./models/embedded.ts";
import { reduxRepository } from "./models/redux.ts";
import { deviceNames, matmulPrecisions } from "./open-device.ts";
import { byteSize, decimalNumber, scaledFile, seedNumber, sigmaList, wholeNumber } from "./option-types.ts";
import { previewKinds } from "./preview-kinds.ts";
import { version } from "./version.ts";

/** What a command gets from the process around it. */
export interface Surroundings {
  readonly signal: AbortSignal;
  readonly setExitCode: (code: ExitCode) => void;
}

/** All commands. */
export const commandNames: readonly string[] = ["generate", "reproduce", "inspect", "convert", "compare", "bench", "doctor", "completion"];

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
  for (const add of [addGenerate, addReproduce, addInspect, addConvert, addCompare, addBench, addDoctor, addCompletion])
    add(program, around);
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

const precisionOption = (byDefault = "highest"): Option =>
  new Option(
    "--matmul-precision <name>",
    `on tensor cores, highest multiplies f32 and quantized numbers in two parts, as exactly as f32, and high rounds them to TF32's 11 bits, for a half to a third of the multiplications (default: ${byDefault})`,
  ).choices(matmulPrecisions);

function deviceOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--device <name>", "where to compute; auto is a hardware GPU, or else the CPU").choices(deviceNames).default("auto"),
    )
    .option("--adapter <name>", "part of a GPU's name, when there are several (wick doctor lists them)")
    .addOption(precisionOption());
}

function hubOptions(command: Command): Command {
  return command
    .option("--offline", "use downloaded files only")
    .option("--cache-dir <folder>", "where downloads are kept (default: as the Python library, HF_HOME)")
    .option("--retries <count>", "failures in a row after which a download gives up (default: 5)", wholeNumber(0, 100));
}

const revisionOption = (): Option => new Option("--revision <name>", "branch, tag or commit of the repository (default: main)");

function modelOptions(command: Command): Command {
  command
    .option("-m, --model <model>", `${embeddedName}, a Hugging Face repository or a folder in diffusers layout`, embeddedName)
    .addOption(revisionOption());
  return hubOptions(command)
    .option("--max-memory <size>", "device memory to stay within, such as 8GB: what does not fit is brought in block by block", byteSize)
    .addOption(new Option("--dtype <format>", "format of the transformer's weights in memory (default: as stored)").choices(weightDTypes))
    .addOption(
      new Option("--text-encoder-dtype <format>", "format of the text encoder's weights (default: as stored)").choices(weightDTypes),
    );
}

function sizeOptions(command: Command): Command {
  return command
    .option("-W, --width <pixels>", "multiple of 16 (default: the model's)", wholeNumber(16, 8192))
    .option("-H, --height <pixels>", "multiple of 16 (default: the model's)", wholeNumber(16, 8192))
    .option("-s, --steps <count>", "denoising steps (default: the model's)", wholeNumber(1, 1000))
    .option("-g, --guidance <scale>", "how strongly to follow the prompt; 0 is off (default: the model's)", decimalNumber(0));
}

function addGenerate(program: Command, { signal }: Surroundings): void {
  const command = program
    .command("generate")
    .alias("g")
    .argument("[prompt...]", "what to draw")
    .description("draw a picture from a prompt");
  sizeOptions(modelOptions(command))
    .option("-o, --out <file.png>", "where to write (default: a name made from the prompt); several pictures are numbered")
    .option("-n, --negative <prompt>", "what to steer away from, with guidance")
    .option("--seed <number>", "where the noise comes from: a whole number, or random", seedNumber, 0)
    .addOption(
      new Option("--rng <kind>", "PyTorch's generator to draw noise as (default: torch-cpu)").choices(["torch-cpu", "torch-cpu-legacy"]),
    )
    .option("-c, --count <number>", "pictures of the same prompt", wholeNumber(1, 64), 1)
    .option("--solver <name>", "how steps are taken (default: euler)")
    .option("--sigmas <list>", "noise levels, comma-separated and decreasing, instead of --steps", sigmaList)
    .option("-i, --init <picture>", "picture to start from (FLUX.1 Kontext: to edit, Fill: to fill, Depth and Canny: the map)")
    .option("--strength <part>", "how much of --init is made anew, in 0…1", decimalNumber(0, 1))
    .option("--mask <picture>", "where --init is made anew: white; black is kept")
    .option("--redux <picture[:strength]>", "FLUX: picture to vary, beside a prompt if there is one; several are mixed", scaledFile)
    .option("--redux-model <model>", `FLUX: repository or folder of Redux (default: ${reduxRepository})`)
    .option("--lora <file[:scale]>", "an adapter to merge in; repeatable", scaledFile)
    .option("--true-cfg <scale>", "FLUX: guidance by a negative prompt, at twice the time", decimalNumber(1))
    .option("--transformer <file>", "the transformer's file in the model's place, when it is one of several single files")
    .option("--companions <model>", "repository or folder with the text encoders and VAE that a single file lacks")
    .addOption(
      new Option("--preview <kind>", "picture in the terminal while it is made (auto: not with NO_COLOR)")
        .choices(previewKinds)
        .default("auto"),
    )
    .option("--list", "list the prompts that the embedded model knows");
  deviceOptions(command);
  common(command).addHelpText("after", generateHelp);
  command.action(async (words: string[], options: GenerateOptions & { list?: boolean }) => {
    if (options.list) return (await import("./commands/list-names.ts")).listNames(options);
    await (await import("./commands/generate.ts")).generate(words, options, signal);
  });
}

function addReproduce(program: Command, { signal, setExitCode }: Surroundings): void {
  const command = program.command("reproduce").argument("<picture.png>", "a picture that wick generate wrote");
  command
    .description("make a picture again from what its file remembers, and compare")
    .option("-m, --model <model>", "use this model instead")
    .option("--transformer <file>", "use this file of the model's place instead")
    .option("--companions <model>", "take text encoders and VAE from here instead")
    .option("--redux-model <model>", "FLUX: use this Redux instead");
  hubOptions(command).option("-o, --out <file.png>", "write the new picture too");
  command
    .addOption(new Option("--device <name>", "where to compute (default: as then)").choices(deviceNames))
    .option("--adapter <name>", "part of a GPU's name")
    .addOption(precisionOption("as then"));
  common(command).addHelpText("after", reproduceHelp);
  command.action(async (path: string, options: ReproduceOptions) => {
    setExitCode(await (await import("./commands/reproduce.ts")).reproduce(path, options, signal));
  });
}

function addInspect(program: Command, { signal }: Surroundings): void {
  const command = program.command("inspect").argument("<what>", "a checkpoint file, a folder or a Hugging Face repository");
  command
    .description("show what a checkpoint holds and the memory it needs; reads headers only")
    .option("-t, --tensors [pattern]", "list the tensors too, or those whose names match (* for anything)")
    .addOption(revisionOption());
  common(hubOptions(command)).addHelpText("after", inspectHelp);
  command.action(async (what: string, options: InspectOptions) => {
    await (await import("./commands/inspect.ts")).inspect(what, options, signal);
  });
}

function addConvert(program: Command, { signal }: Surroundings): void {
  const command = program.command("convert").argument("<input>", "a checkpoint file, or the folder of its shards");
  command
    .argument("<output>", "file to write; .safetensors, .gguf or .npz")
    .description("rewrite a checkpoint: another format, number format or layout, adapters merged in")
    .addOption(new Option("--dtype <format>", "number format; block formats go to matrices only and need .gguf").choices(weightDTypes))
    .option("--layout <name>", "whose tensor names to use, such as black-forest-labs or diffusers")
    .option("--lora <file[:scale]>", "an adapter to merge in; repeatable", scaledFile);
  common(command).addHelpText("after", convertHelp);
  command.action(async (input: string, output: string, options: ConvertOptions) => {
    await (await import("./commands/convert.ts")).convert(input, output, options, signal);
  });
}

function addCompare(program: Command, { signal, setExitCode }: Surroundings): void {
  const command = program.command("compare").argument("<file>", "tensors to judge: a checkpoint, .npz or .npy");
  command
    .argument("<reference>", "tensors to judge them by")
    .description("compare two sets of tensors by name, and find the first that diverges")
    .option("--tolerance <number>", "relative L2 error up to which tensors agree", decimalNumber(0), 1e-5)
    .option("-a, --all", "show every tensor, not only the worst");
  common(command).addHelpText("after", compareHelp);
  command.action(async (a: string, b: string, options: CompareOptions) => {
    setExitCode(await (await import("./commands/compare.ts")).compare(a, b, options, signal));
  });
}

function addBench(program: Command, { signal }: Surroundings): void {
  const command = program.command("bench").description("measure how quick a model is on this machine");
  sizeOptions(modelOptions(command))
    .option("--prompt <text>", "what to draw", "a red apple")
    .option("-r, --runs <count>", "pictures after the first", wholeNumber(1, 1000), 3)
    .option("--profile [trace.json]", "draw one more and tell its time by module and kernel; also as a file for ui.perfetto.dev");
  common(deviceOptions(command)).addHelpText("after", benchHelp);
  command.action(async (options: BenchOptions) => {
    await (await import("./commands/bench.ts")).bench(options, signal);
  });
}

function addDoctor(program: Command): void {
  const command = program.command("doctor").description("show what this machine can do, what it lacks and how to get it");
  command
    .option("--tune", "first measure which kernels are fastest on the GPU (some seconds), for all later commands")
    .option("--adapter <name>", "part of a GPU's name, when there are several");
  common(command).action(async (options: DoctorOptions) => {
    await (await import("./commands/doctor.ts")).doctor(options);
  });
}

function addCompletion(program: Command): void {
  const command = program.command("completion").description("print a script that completes commands and options in your shell");
  command.addArgument(new Argument("<shell>", "your shell").choices(shells)).addHelpText("after", completionHelp);
  command.action((shell: Shell) => {
    process.stdout.write(`${completionScript(shell, program)}\n`);
  });
}

const programHelp = `
Examples:
  wick generate "a red apple"                      a picture, with the small model that comes along
  wick generate "a lighthouse in fog" -m Tongyi-MAI/Z-Image-Turbo --dtype q8_0
  wick reproduce a-red-apple-seed-0.png            make it again from what the file remembers, and compare
  wick inspect Tongyi-MAI/Z-Image-Turbo            what is in a repository or checkpoint, and the memory it needs
  wick convert flux1-dev.safetensors flux1-dev-q8_0.gguf --dtype q8_0
  wick compare ours.safetensors theirs.safetensors where two sets of tensors first differ
  wick doctor                                      what this machine can do, and what it lacks

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
  wick generate "a lighthouse in fog" --model Tongyi-MAI/Z-Image-Turbo --max-memory 6GB
  wick generate "a lighthouse in fog" --model Tongyi-MAI/Z-Image-Turbo --matmul-precision high
  wick generate "a castle at night" --model black-forest-labs/FLUX.1-schnell --init castle.jpg --strength 0.6
  wick generate --model black-forest-labs/FLUX.1-dev --redux castle.jpg --guidance 2.5
  wick generate "at night" --model black-forest-labs/FLUX.1-dev --redux castle.jpg:0.6
  wick generate "a lighthouse in fog" --model ./flux1-dev-q8_0.gguf --companions black-forest-labs/FLUX.1-dev
  wick generate "a lighthouse in fog" --model ./z_image_turbo-Q4_K_M.gguf --companions Tongyi-MAI/Z-Image-Turbo
  wick generate "a lighthouse in fog" --model ./my-model --lora style.safetensors:0.8

The PNG remembers prompt, seed, every setting, the model's revision and the hashes of its files: wick reproduce FILE makes it again.`;

const reproduceHelp = `
Examples:
  wick reproduce a-red-apple-seed-0.png
  wick reproduce picture.png --device cpu --out again.png
  wick reproduce picture.png --model ./the-same-model-here --json

Exit code 0: the same pixels; 3: different ones, with the size of the difference and what has changed since.`;

const inspectHelp = `
Examples:
  wick inspect flux1-dev.safetensors
  wick inspect model.gguf --tensors "blk.0.*"
  wick inspect ./my-model/transformer --json
  wick inspect black-forest-labs/FLUX.1-schnell    only the headers are downloaded`;

const convertHelp = `
Examples:
  wick convert flux1-dev.safetensors flux1-dev-q8_0.gguf --dtype q8_0
  wick convert ./my-model/transformer one-file.safetensors --layout black-forest-labs
  wick convert model.safetensors styled.safetensors --lora style.safetensors:0.8 --lora detail.safetensors:0.4
  wick convert old.pth new.safetensors --dtype bf16`;

const compareHelp = `
Examples:
  wick compare ours.safetensors theirs.safetensors
  wick compare captured.npz reference.npz --tolerance 1e-4 --all
  wick compare flux1-dev.safetensors ./flux-diffusers/transformer   two layouts of one model are matched by name

Exit code 0: every tensor agrees; 3: at least one does not, or is on one side only.`;

const benchHelp = `
Examples:
  wick bench
  wick bench --device cpu --runs 5 --json > cpu.json
  wick bench --profile trace.json                  where the time goes, by module and by kernel
  wick bench --model Tongyi-MAI/Z-Image-Turbo --dtype q8_0 --width 1024 --height 1024`;

const completionHelp = `
Examples:
  eval "$(wick completion bash)"                   in ~/.bashrc
  eval "$(wick completion zsh)"                    in ~/.zshrc
  wick completion fish | source                    in ~/.config/fish/config.fish`;
