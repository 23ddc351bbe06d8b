// What an adapter file is, from its names alone.
import { Flux, flux1Dev } from "@wick/models-flux";
import { ZImage, zImageTurbo } from "@wick/models-zimage";
import { type Module, namedParameters, planLora } from "@wick/nn";
import type { NameRules, WeightSource } from "@wick/tensor";

/** What an adapter file is. */
export interface AdapterFacts {
  /** "LoRA", "DoRA", "LoHa", "LoKr": the first is read. */
  readonly kinds: readonly string[];
  /** Ranks that occur. */
  readonly ranks: readonly number[];
  /** The released model whose weights it changes most of, if any. */
  readonly model: string | undefined;
  /** Weights of that model. */
  readonly targets: number;
  /** Tensors that are for text encoders, or that the model has no place for, or of kinds that are not read. */
  readonly unused: number;
}

const kindPatterns: readonly (readonly [RegExp, string])[] = [
  [/\.hada_/, "LoHa"],
  [/\.lokr_/, "LoKr"],
  [/\.(dora_scale|lora_magnitude_vector)/, "DoRA"],
  [/(^|\.)lora_(A|B|down|up)\b|\.lora\.(down|up)\b/, "LoRA"],
];

/** The facts of an adapter, for one of the models in `names` by their rules. */
export function adapterFacts(source: WeightSource, names: Readonly<Record<"flux" | "zImage", readonly NameRules[]>>): AdapterFacts {
  const keys = [...source.entries.keys()];
  const kinds = kindPatterns.filter(([pattern]) => keys.some((key) => pattern.test(key))).map(([, kind]) => kind);
  const downs = [...source.entries.values()].filter((e) => /\.(lora_A|lora_down|lora\.down|hada_w1_b)\b/.test(e.name));
  const ranks = [...new Set(downs.map((e) => e.shape[0] ?? 0))].sort((a, b) => a - b);
  const fits = [
    coverageOf(source, "Z-Image", new ZImage(zImageTurbo), names.zImage),
    coverageOf(source, "FLUX.1", new Flux(flux1Dev), names.flux),
  ].flatMap((fit) => fit ?? []);
  const best = fits.sort((a, b) => b.coverage.matched - a.coverage.matched)[0];
  const unused = source.entries.size - (best?.coverage.matched ?? 0);
  return { kinds, ranks, model: best?.model, targets: best?.coverage.targets.length ?? 0, unused };
}

/** How the file fits a model that is only declared; undefined when it does not. */
function coverageOf(source: WeightSource, model: string, network: Module, names: readonly NameRules[]) {
  try {
    const shapes = new Map([...namedParameters(network)].map(([path, p]) => [path, p.shape]));
    return { model, coverage: planLora(shapes, source, names).coverage };
  } catch {
    return undefined;
  }
}
