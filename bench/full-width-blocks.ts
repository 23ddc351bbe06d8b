// One block of every released transformer at its full width, with random weights in the formats of releases: WebGPU against the CPU backend.
// A picture of 256 x 256 is 256 image tokens; FLUX.1 dev adds 512 text tokens, Z-Image 64 caption tokens.
// Run: npx tsx --conditions=@wick/source bench/full-width-blocks.ts [flux-double flux-single z-image] [bf16 q8_0 q4_K]
// It needs 5 GB of memory and takes minutes on a software driver; any error above the tolerance ends it with status 1.
import { DoubleStreamBlock, flux1Dev, imagePositions, SingleStreamBlock, textPositions } from "@wick/models-flux";
import { ZImageBlock, zImageTurbo } from "@wick/models-zimage";
import { fusedAttention, load, type Module, namedParameters, ropeTable } from "@wick/nn";
import {
  cpu,
  type Device,
  type DType,
  hold,
  scope,
  type Tensor,
  torchCpu,
  type WeightEntry,
  type WeightSource,
  webgpu,
} from "@wick/tensor";
import { findDriver } from "../tools/vulkan.ts";

/** Relative L2 that a block of any format must keep between devices. */
const tolerance = 1e-5;
const [side, textTokens, captionTokens] = [16, 512, 64];

interface Case {
  readonly make: () => Module;
  readonly run: (device: Device, block: Module) => Tensor[];
}

const random = (device: Device, shape: readonly number[], seed: number) => device.randn(shape, torchCpu(seed));

const cases: Readonly<Record<string, Case>> = {
  "flux-double": {
    make: () => new DoubleStreamBlock(flux1Dev),
    run: (device, block) => {
      const double = block as DoubleStreamBlock;
      const { width, ropeAxes, ropeTheta } = flux1Dev;
      const rope = ropeTable(device, [...textPositions(textTokens), ...imagePositions(side, side)], { widths: ropeAxes, theta: ropeTheta });
      const modulation = double.modulation(random(device, [1, width], 3));
      const streams = { img: random(device, [1, side * side, width], 1), txt: random(device, [1, textTokens, width], 2) };
      const { img, txt } = double.forward(streams, modulation, rope);
      return [img, txt];
    },
  },
  "flux-single": {
    make: () => new SingleStreamBlock(flux1Dev),
    run: (device, block) => {
      const single = block as SingleStreamBlock;
      const { width, ropeAxes, ropeTheta } = flux1Dev;
      const rope = ropeTable(device, [...textPositions(textTokens), ...imagePositions(side, side)], { widths: ropeAxes, theta: ropeTheta });
      const [modulation] = single.modulation.forward(random(device, [1, width], 3));
      return [single.forward(random(device, [1, textTokens + side * side, width], 1), modulation!, rope)];
    },
  },
  "z-image": {
    make: () => new ZImageBlock(zImageTurbo, { modulated: true, attention: fusedAttention }),
    run: (device, block) => {
      const { width, conditionWidth, ropeAxes, ropeTheta } = zImageTurbo;
      const image = imagePositions(side, side, captionTokens + 1);
      const caption = Array.from({ length: captionTokens }, (_, i) => [1 + i, 0, 0]);
      const rope = ropeTable(device, [...image, ...caption], { widths: ropeAxes, theta: ropeTheta });
      const condition = random(device, [1, conditionWidth], 3).mul(0.1);
      return [(block as ZImageBlock).forward(random(device, [1, image.length + captionTokens, width], 1), rope, { condition })];
    },
  },
};

/** bf16 weights of unit gain: even values in ±sqrt(3 / inputs), norm scales around 1, small biases. */
function randomWeights(model: Module): WeightSource {
  const parameters = new Map(namedParameters(model));
  const entries = new Map<string, WeightEntry>();
  for (const [name, { shape, size }] of parameters)
    entries.set(name, { name, shape, dtype: "bf16", storedDtype: "BF16", byteLength: 2 * size, file: "memory" });
  return {
    entries,
    metadata: new Map(),
    async *stream(name) {
      const { shape, size } = parameters.get(name)!;
      const norm = name.includes("norm");
      yield evenBits(size, norm ? 1 : 0, shape.length > 1 ? Math.sqrt(3 / shape[1]!) : norm ? 0.1 : 0.02, seedOf(name));
    },
    async close() {},
  };
}

const seedOf = (name: string): number => [...name].reduce((seed, c) => (Math.imul(seed, 31) + c.charCodeAt(0)) | 0, 7) | 1;

/** `count` values of even distribution in middle ± reach, cut to bf16 (xorshift32). */
function evenBits(count: number, middle: number, reach: number, seed: number): Uint8Array {
  const bits = new Uint16Array(count);
  const value = new Float32Array(1);
  const word = new Uint32Array(value.buffer);
  let state = seed;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    value[0] = middle + reach * (state / 2 ** 31);
    bits[i] = word[0]! >>> 16;
  }
  return new Uint8Array(bits.buffer);
}

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

async function results(device: Device, { run }: Case, block: Module): Promise<Float32Array[]> {
  using out = hold(scope(() => run(device, block)));
  const read: Float32Array[] = [];
  for (const t of out.value) read.push((await t.toArray()) as Float32Array);
  return read;
}

function relativeL2(got: readonly Float32Array[], want: readonly Float32Array[]): number {
  let [difference, size] = [0, 0];
  for (const [k, w] of want.entries()) {
    for (let i = 0; i < w.length; i++) {
      difference += (got[k]![i]! - w[i]!) ** 2;
      size += w[i]! ** 2;
    }
  }
  return Math.sqrt(difference / size);
}

async function compare(name: string, dtype: DType, host: Device, gpu: Device): Promise<number> {
  const chosen = cases[name]!;
  using block = chosen.make();
  await load(block, randomWeights(block), host, { dtype });
  const onHost = performance.now();
  const want = await results(host, chosen, block);
  const hostTime = seconds(onHost);
  using twin = chosen.make();
  const loaded = new Map(namedParameters(block));
  for (const [path, parameter] of namedParameters(twin)) {
    const from = loaded.get(path)!;
    using copy = gpu.fromBytes(await from.toBytes(), from.shape, from.loadedDType!, path);
    parameter.fill(copy);
  }
  block.unload();
  const onGpu = performance.now();
  const error = relativeL2(await results(gpu, chosen, twin), want);
  const size = [...loaded.values()].reduce((sum, p) => sum + p.size, 0);
  console.log(
    `${name} ${dtype}: ${(size / 1e6).toFixed(0)} M weights, relative L2 ${error.toExponential(1)}, CPU ${hostTime}, WebGPU ${seconds(onGpu)}`,
  );
  return error;
}

const given = process.argv.slice(2);
const names = Object.keys(cases).filter((n) => given.length === 0 || given.includes(n) || !given.some((g) => g in cases));
const formats = (["bf16", "q8_0", "q4_K"] as const).filter((f) => given.includes(f) || !given.some((g) => !(g in cases)));
const driver = await findDriver();
Object.assign(process.env, driver?.env);
using host = cpu();
using gpu = await webgpu();
console.log(`${gpu} against ${host}`);
let worst = 0;
for (const name of names) for (const dtype of formats) worst = Math.max(worst, await compare(name, dtype, host, gpu));
if (!(worst < tolerance)) {
  console.log(`above ${tolerance}`);
  process.exitCode = 1;
}
