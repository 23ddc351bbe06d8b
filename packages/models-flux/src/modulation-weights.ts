// Modulations depend on the condition vector alone, yet their weights are 27 % of FLUX.1. A model can be loaded in two parts: first what makes
// modulations, which is computed for all noise levels and let go, then the rest.
import { type BlockRun, Module } from "@wick/nn";
import { hold, scope } from "@wick/tensor";
import type { DoubleModulation, Flux, FluxCondition, FluxModulations, ShiftScaleGate } from "./flux1.ts";

/** Some of a model's modules under their paths in it. */
class ModelPart extends Module {
  readonly #modules: readonly (readonly [path: string, module: Module])[];
  readonly #whole: Flux;
  constructor(whole: Flux, modules: readonly (readonly [string, Module])[]) {
    super();
    this.#whole = whole;
    this.#modules = modules;
  }
  override children(): Iterable<readonly [string, unknown]> {
    return this.#modules;
  }
  override get highPrecision(): readonly string[] {
    return this.#whole.highPrecision;
  }
}

const makesModulation = (path: string): boolean =>
  /^(time|vector|guidance)_in$|^double_blocks\.\d+\.(img|txt)_mod$|^single_blocks\.\d+\.modulation$/.test(path);

/** Every module below the blocks' level, by path. */
function modulesOf(model: Flux): [string, Module][] {
  const inside = (stack: "double_blocks" | "single_blocks") =>
    model[stack].flatMap((block, i) => [...block.children()].map(([name, part]) => [`${stack}.${i}.${name}`, part] as const));
  const outside = [...model.children()].filter(([name]) => name !== "double_blocks" && name !== "single_blocks");
  return [...outside, ...inside("double_blocks"), ...inside("single_blocks")].filter(
    (entry): entry is [string, Module] => entry[1] instanceof Module,
  );
}

/** The two parts of a model for `load`; together they are all of it. */
export function splitModulation(model: Flux): {
  /** What makes modulations from the condition. */
  readonly modulation: Module;
  /** Everything else. */
  readonly trunk: Module;
} {
  const modules = modulesOf(model);
  return {
    modulation: new ModelPart(
      model,
      modules.filter(([path]) => makesModulation(path)),
    ),
    trunk: new ModelPart(
      model,
      modules.filter(([path]) => !makesModulation(path)),
    ),
  };
}

/**
 * Modulations of all blocks at each noise level, owned by the caller; needs the modulation part only. Pauses before each block, whose
 * modulation is then made for all levels: see runBlocksAsync.
 */
export function* runModulations(
  model: Flux,
  sigmas: readonly number[],
  condition: Omit<FluxCondition, "sigma">,
): BlockRun<ReadonlyMap<number, FluxModulations>> {
  const none = { double: [] as DoubleModulation[], single: [] as ShiftScaleGate[] };
  using made = hold(scope(() => sigmas.map((sigma) => ({ ...none, vec: model.condition({ ...condition, sigma: [sigma] }) }))));
  for (const block of model.double_blocks) {
    yield block;
    made.update((all) => all.map((m) => ({ ...m, double: [...m.double, block.modulation(m.vec)] })));
  }
  for (const block of model.single_blocks) {
    yield block;
    made.update((all) => all.map((m) => ({ ...m, single: [...m.single, block.modulation.forward(m.vec)[0]!] })));
  }
  const all = made.release();
  return new Map(sigmas.map((sigma, i) => [sigma, all[i]!]));
}
