// Random weights as PyTorch's layers give them: for tiny models in tests and for training from scratch. Same seed, same weights.
// pytorch: torch/nn/modules/{linear,conv,sparse,normalization}.py (reset_parameters), torch/nn/init.py, aten/src/ATen/native/cpu/DistributionTemplates.h.
import { type Device, sizeOf, TensorError, type TorchCpuGenerator } from "@wick/tensor";
import { Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d } from "./conv.ts";
import { Embedding } from "./embedding.ts";
import { Linear } from "./linear.ts";
import { type Module, type ParameterSite, parameterSites } from "./module.ts";
import { BatchNorm, GroupNorm, LayerNorm, RmsNorm } from "./norm.ts";

/** Values for a parameter that is no part of a known layer; undefined leaves it an error. */
export type ParameterInit = (site: ParameterSite, generator: TorchCpuGenerator) => Float32Array | undefined;

/**
 * Fills every parameter in f32 with PyTorch's default initialization, drawn from `generator` in the order of the tree (which is the order of
 * construction in PyTorch when fields are declared in it). `other` makes values for parameters outside of the known layers; throws
 * TensorError naming those it does not know. A model that was loaded before is overwritten; on failure it ends unloaded.
 */
export function initParameters(model: Module, device: Device, generator: TorchCpuGenerator, other: ParameterInit = () => undefined): void {
  try {
    for (const site of parameterSites(model)) {
      if (site.aliasOf !== undefined) continue;
      const values = defaultValues(site, generator) ?? other(site, generator);
      if (!values) throw new TensorError("initParameters", `no rule for ${site.path} ${site.parameter}; give one as the last argument`);
      using data = device.tensor(values, site.parameter.shape, { label: site.path });
      site.parameter.label = site.path;
      site.parameter.fill(data);
    }
  } catch (error) {
    model.unload();
    throw error;
  }
}

/** Values as PyTorch's layer makes them, or undefined for a parameter outside of the known layers. */
export function defaultValues(site: ParameterSite, generator: TorchCpuGenerator): Float32Array | undefined {
  const { owner, parameter } = site;
  const count = parameter.size;
  if (owner instanceof Embedding) return generator.randn(count);
  if (owner instanceof Linear || isConv(owner)) {
    return uniform(generator, count, owner.bias === parameter ? 1 / Math.sqrt(fanIn(owner)) : kaimingBound(fanIn(owner)));
  }
  if (owner instanceof RmsNorm) return new Float32Array(count).fill(1);
  if (owner instanceof LayerNorm || owner instanceof GroupNorm) return new Float32Array(count).fill(owner.bias === parameter ? 0 : 1);
  if (owner instanceof BatchNorm)
    return new Float32Array(count).fill(parameter === owner.weight || parameter === owner.running_var ? 1 : 0);
  return undefined;
}

type Conv = Conv1d | Conv2d | ConvTranspose1d | ConvTranspose2d;
const isConv = (m: unknown): m is Conv =>
  m instanceof Conv1d || m instanceof Conv2d || m instanceof ConvTranspose1d || m instanceof ConvTranspose2d;

/** Everything but the first dimension, as PyTorch counts it (for transposed convolutions too). */
const fanIn = (layer: Linear | Conv): number => sizeOf(layer.weight.shape.slice(1));

/** kaiming_uniform with a = sqrt(5): 1 / sqrt(fan in) as for biases, but for the rounding on the way. */
const kaimingBound = (fan: number): number => Math.sqrt(3) * (Math.sqrt(2 / (1 + Math.sqrt(5) ** 2)) / Math.sqrt(fan));

/** Uniform in [-bound, bound), computed in f32. */
function uniform(generator: TorchCpuGenerator, count: number, bound: number): Float32Array {
  const [low, range] = [Math.fround(-bound), Math.fround(Math.fround(bound) - Math.fround(-bound))];
  // One rounding: PyTorch's CPU kernels multiply and add fused.
  return generator.rand(count).map((u) => u * range + low);
}
