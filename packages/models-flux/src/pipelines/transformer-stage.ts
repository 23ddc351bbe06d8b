// The transformer of a FLUX.1 pipeline: loaded whole, or in two parts one after the other; either way its blocks can stream.
import { LazyModel, type OpenWeights } from "@wick/diffusion";
import { type DTypePolicy, type Module, namedParameters } from "@wick/nn";
import { type DType, renameAll } from "@wick/tensor";
import type { Flux } from "../flux1.ts";
import { splitModulation } from "../modulation-weights.ts";

/** The transformer whole, and in the two parts that `precomputeModulation` loads one after the other; all fill `model`. */
export interface TransformerStage {
  /** The network that all three fill. */
  readonly model: Flux;
  /** All weights. */
  readonly whole: LazyModel<Flux>;
  /** Those that make modulations. */
  readonly modulation: LazyModel<Module>;
  /** The rest. */
  readonly trunk: LazyModel<Module>;
  /** Declares another network like `model`, for memory plans; default a Flux of the same config. */
  readonly another?: () => Flux;
}

/** The stage of `model`; `open` opens its checkpoint under its own names. */
export function transformerStage(model: Flux, open: OpenWeights, dtype?: DType | DTypePolicy | undefined): TransformerStage {
  const parts = splitModulation(model);
  const modulationNames = new Set([...namedParameters(parts.modulation)].map(([name]) => name));
  const only =
    (wanted: boolean): OpenWeights =>
    async (signal, how) =>
      renameAll(await open(signal, how), (name) => (modulationNames.has(name) === wanted ? name : undefined));
  const lazy = <M extends Module>(name: string, part: M, opened: OpenWeights) =>
    new LazyModel({ name, model: part, open: opened, dtype, blocks: [...model.double_blocks, ...model.single_blocks] });
  return {
    model,
    whole: lazy("transformer", model, open),
    modulation: lazy("modulation", parts.modulation, only(true)),
    trunk: lazy("transformer", parts.trunk, only(false)),
  };
}
