// Adapters beside the weights at run time: nothing is merged, so the base may be quantized, and adapters can be scaled, stacked and removed.
import { type Shape, type Tensor, type WeightSource, WeightsError } from "@wick/tensor";
import { Linear, type LowRank } from "./linear.ts";
import type { LoraOptions } from "./lora-merge.ts";
import { type LoraCoverage, type LoraPart, planLora } from "./lora-targets.ts";
import { type LoadedPart, loadPart, sourceRow } from "./lora-values.ts";
import { type Module, namedModules, namedParameters, type ParameterSite, parameterSites } from "./module.ts";

/** How an adapter is attached. */
export interface AttachOptions extends LoraOptions {
  /** For `detachLora` and `setLoraScale`; "lora" by default. */
  readonly name?: string;
  /** 1 by default. */
  readonly scale?: number;
  /** Format of the adapter's matrices on the device; f32 by default. */
  readonly dtype?: "f32" | "f16" | "bf16";
  /** Stops reading; nothing stays attached. */
  readonly signal?: AbortSignal;
}

/** An adapter that is attached to a model; disposing of it detaches it. */
export interface AttachedLora extends Disposable {
  /** For `detachLora` and `setLoraScale`. */
  readonly name: string;
  /** What of the file is in use, and what is not. */
  readonly coverage: LoraCoverage;
  /** Factor on the whole change; may be set between forward passes. */
  scale: number;
  /** Takes the adapter off and releases it. */
  detach(): void;
}

/**
 * Attaches the adapter file `lora` to the Linear layers of a loaded `model`: y += scale · alpha / rank · (x Aᵀ) Bᵀ. Changes to anything else
 * are listed in `coverage.unsupported`: merge them with `withLora`. Throws WeightsError when nothing matches, a shape does not fit, or the
 * name is taken; when reading fails or aborts, nothing stays attached.
 */
export async function attachLora(model: Module, lora: WeightSource, options: AttachOptions = {}): Promise<AttachedLora> {
  const { name = "lora", scale = 1, names = [], dtype = "f32", signal } = options;
  if (attachedLoras(model).includes(name))
    throw new WeightsError("attachLora", `an adapter of this name is attached: ${name}; detach it first`);
  const sites = new Map([...parameterSites(model)].map((s) => [s.path, s]));
  const plan = planLora(new Map([...namedParameters(model)].map(([n, p]) => [n, p.shape])), lora, names);
  const { layers, unsupported } = groupByLayer(plan.parts, sites);
  const coverage = { ...plan.coverage, unsupported: [...plan.coverage.unsupported, ...unsupported] };
  if (layers.size === 0) {
    throw new WeightsError(
      "attachLora",
      `changes no Linear layer: ${coverage.targets.slice(0, 3).join(", ")}, …; merge it with withLora()`,
    );
  }
  const made: [Linear, LowRank][] = [];
  try {
    for (const [layer, parts] of layers) {
      signal?.throwIfAborted();
      made.push([layer, await makeAdapter({ layer, parts, lora, name, scale, dtype, signal })]);
    }
    signal?.throwIfAborted();
  } catch (error) {
    for (const [, { down, up, bias }] of made) for (const t of [down, up, bias]) t?.dispose();
    throw error;
  }
  for (const [layer, adapter] of made) layer.attach(adapter);
  return handleOf(model, name, scale, coverage, made);
}

function handleOf(model: Module, name: string, scale: number, coverage: LoraCoverage, made: readonly [Linear, LowRank][]): AttachedLora {
  let current = scale;
  const detach = (): void => detachLora(model, name);
  return {
    name,
    coverage,
    get scale() {
      return current;
    },
    set scale(value) {
      current = value;
      for (const [, adapter] of made) adapter.scale = value;
    },
    detach,
    [Symbol.dispose]: detach,
  };
}

/** Names of the adapters attached to any layer of `model`. */
export function attachedLoras(model: Module): string[] {
  return [...new Set(linearLayers(model).flatMap((l) => l.adapters.map((a) => a.name)))];
}

/** Removes and releases the adapter called `name`; without one of that name, nothing happens. */
export function detachLora(model: Module, name: string): void {
  for (const layer of linearLayers(model)) layer.detach(name);
}

/** Changes how strongly an attached adapter acts; throws WeightsError when there is none of that name. */
export function setLoraScale(model: Module, name: string, scale: number): void {
  const adapters = linearLayers(model).flatMap((l) => l.adapters.filter((a) => a.name === name));
  if (adapters.length === 0) {
    const known = attachedLoras(model).join(", ") || "none";
    throw new WeightsError("setLoraScale", `no adapter of this name is attached: ${name}; attached are ${known}`);
  }
  for (const a of adapters) a.scale = scale;
}

const linearLayers = (model: Module): Linear[] => [...namedModules(model)].flatMap(([, m]) => (m instanceof Linear ? [m] : []));

/** Changes of one layer. */
interface LayerParts {
  readonly weight: LoraPart[];
  readonly bias: LoraPart[];
}

function groupByLayer(parts: ReadonlyMap<string, readonly LoraPart[]>, sites: ReadonlyMap<string, ParameterSite>) {
  const layers = new Map<Linear, LayerParts>();
  const unsupported: string[] = [];
  for (const [path, list] of parts) {
    const { owner, parameter } = sites.get(path)!;
    for (const part of list) {
      const wide = part.down && part.down.shape.slice(1).reduce((a, b) => a * b, 1) > (parameter.shape[1] ?? 0);
      if (!(owner instanceof Linear) || part.kind !== "lowRank" || wide) {
        unsupported.push(...[part.down, part.up].flatMap((e) => (e ? [e.name] : [])));
        continue;
      }
      const known = layers.get(owner) ?? { weight: [], bias: [] };
      (parameter === owner.weight ? known.weight : known.bias).push(part);
      layers.set(owner, known);
    }
  }
  for (const [layer, { weight }] of layers) if (weight.length === 0) layers.delete(layer);
  return { layers, unsupported };
}

interface AdapterPlan {
  readonly layer: Linear;
  readonly parts: LayerParts;
  readonly lora: WeightSource;
  readonly name: string;
  readonly scale: number;
  readonly dtype: "f32" | "f16" | "bf16";
  readonly signal: AbortSignal | undefined;
}

/** One pair of matrices for all parts of a layer, on the layer's device. */
async function makeAdapter({ layer, parts, lora, name, scale, dtype, signal }: AdapterPlan): Promise<LowRank> {
  const [rows, columns] = layer.weight.shape as [number, number];
  const weights = await loadParts(lora, parts.weight, signal);
  const biases = await loadParts(lora, parts.bias, signal);
  const rank = weights.reduce((sum, p) => sum + p.rank, 0);
  const { down, up } = sideBySide(weights, rows, columns, rank);
  const bias = biases.length > 0 ? new Float32Array(rows) : undefined;
  for (const p of biases) placeUp(p, rows, bias!, 0, 1);
  const owned: Tensor[] = [];
  const put = (values: Float32Array, shape: Shape, what: string): Tensor => {
    const tensor = layer.weight.device.tensor(values, shape, { dtype, label: `${layer.weight.label}.${name}.${what}` });
    owned.push(tensor);
    return tensor;
  };
  try {
    const tensors = { down: put(down, [rank, columns], "down"), up: put(up, [rows, rank], "up") };
    return { name, scale, ...tensors, bias: bias && put(bias, [rows], "bias") };
  } catch (error) {
    for (const t of owned) t.dispose();
    throw error;
  }
}

async function loadParts(lora: WeightSource, parts: readonly LoraPart[], signal: AbortSignal | undefined): Promise<LoadedPart[]> {
  const loaded: LoadedPart[] = [];
  for (const part of parts) loaded.push(await loadPart(lora, part, 1, signal));
  return loaded;
}

/** Ranks side by side: `down` [rank, columns], `up` [rows, rank] zero outside of a part's rows, alpha / rank multiplied in. */
function sideBySide(parts: readonly LoadedPart[], rows: number, columns: number, rank: number): { down: Float32Array; up: Float32Array } {
  const [down, up] = [new Float32Array(rank * columns), new Float32Array(rows * rank)];
  let first = 0;
  for (const p of parts) {
    down.set(p.down!, first * columns);
    placeUp(p, rows, up, first, rank);
    first += p.rank;
  }
  return { down, up };
}

/** factor · up into columns first…first+rank of a [rows, width] matrix. */
function placeUp(p: LoadedPart, rows: number, out: Float32Array, first: number, width: number): void {
  for (let row = 0; row < rows; row++) {
    const from = sourceRow(p.part, row, rows);
    if (from === undefined) continue;
    for (let k = 0; k < p.rank; k++) out[row * width + first + k] = p.factor * p.up[from * p.rank + k]!;
  }
}
