// Trust in a tier is earned: before its kernels are used, they must get a few products exactly right. Drivers have shipped wrong subgroup
// matrices and wrong f16, and some compute nothing at all. The verdict is kept per adapter for the life of the process.
import { DeviceError } from "../../errors.ts";
import { contiguousLayout, permuteLayout } from "../../layout.ts";
import type { View } from "../../view.ts";
import type { Backend } from "../backend.ts";
import type { OpenedDevice } from "./open.ts";
import type { WebGpuOptions } from "./options.ts";
import { attentionFailure } from "./self-test-attention.ts";
import { adapterName, type Tier, tiers } from "./tier.ts";
import type { DeviceTraits } from "./traits.ts";

/** One family of kernels that differs between tiers: computes something whose exact result is known; the reason when it is wrong. */
interface TierTest {
  readonly op: string;
  readonly hardwareOnly?: boolean;
  failure(backend: Backend, made: View[]): Promise<string | undefined>;
}

/** Every kernel family with tiers has its line here. */
const tests: readonly TierTest[] = [
  { op: "matmul", failure: matmulFailure },
  // On software adapters work of this size runs the plain kernel in every tier.
  { op: "attention", hardwareOnly: true, failure: attentionFailure },
];

/** Failure messages by adapter and tier; undefined for a tier that passed. */
const verdicts = new Map<string, string | undefined>();

/**
 * The traits with the fastest tier whose kernels compute correctly here, and the reason when a faster one was turned down. A forced tier is not
 * tested. Throws DeviceError when even the plain kernels are wrong: such a driver must not be used.
 */
export async function trustedTraits(
  { info, driver }: OpenedDevice,
  traits: DeviceTraits,
  options: WebGpuOptions,
  make: (traits: DeviceTraits) => Backend,
): Promise<DeviceTraits> {
  if (options.tier || options.driver === "null") return traits;
  let current = traits;
  for (;;) {
    const key = [
      adapterName(info, driver),
      current.tier,
      current.float32MatmulPrecision,
      options.robustness,
      JSON.stringify([current.tuned, current.tunedAttention]),
    ].join("|");
    if (!verdicts.has(key)) verdicts.set(key, await failureOf(make(current), current));
    const failure = verdicts.get(key);
    if (failure === undefined) return current;
    const tierReason = turnedDown(current, traits, failure);
    if (current.tier === "plain")
      throw new DeviceError(
        "webgpu",
        "wrong-results",
        `${info.description || info.vendor} computes wrong results: ${tierReason}; update its driver or use cpu()`,
      );
    current = { ...current, tier: lower(current.tier), float32MatmulPrecision: "highest", tierReason };
  }
}

const lower = (tier: Tier): Tier => tiers[tiers.indexOf(tier) - 1] ?? "plain";

/** The reason so far, when it already tells of a failure, and this one. */
function turnedDown(current: DeviceTraits, first: DeviceTraits, failure: string): string {
  const before = current.tierReason === first.tierReason ? "" : `${current.tierReason}; `;
  return `${before}the ${current.tier} tier failed its self-test: ${failure}`;
}

async function failureOf(backend: Backend, { software }: DeviceTraits): Promise<string | undefined> {
  for (const { op, failure, hardwareOnly } of tests) {
    if (software && hardwareOnly) continue;
    const made: View[] = [];
    try {
      const reason = await failure(backend, made);
      if (reason) return `${op} ${reason}`;
    } catch (error) {
      return `${op}: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`;
    } finally {
      for (const v of made) backend.release(v.buffer);
      backend.trim();
    }
  }
  return undefined;
}

const [rows, inner, columns] = [144, 160, 140];
const valueA = (i: number): number => ((i * 7) % 13) - 6;
const valueB = (i: number): number => ((i * 5) % 11) - 5;

/**
 * What a product of this backend gets wrong, or undefined: integers whose sums are exact in f32 in every order. Those of a have 12 digits and
 * more, one more than f16, so that subgroup matrices must split them.
 */
export async function matmulFailure(backend: Backend, made: View[]): Promise<string | undefined> {
  const factor = backend.capabilities.float32MatmulPrecision === "high" ? 1 : 2049;
  const a = Float32Array.from({ length: rows * inner }, (_, i) => valueA(i) * factor);
  const b = Uint16Array.from({ length: inner * columns }, (_, i) => halfBits(valueB(i)));
  const viewA = upload(backend, "f32", a, [rows, inner], made);
  const viewB = upload(backend, "f16", b, [columns, inner], made);
  const out = upload(backend, "f32", new Float32Array(rows * columns), [rows, columns], made);
  backend.kernels.matmul(out, { a: viewA, b: { ...viewB, layout: permuteLayout(viewB.layout, [1, 0]) } }, {});
  return firstError(new Float32Array((await backend.read(out.buffer, 0, rows * columns * 4)).buffer), factor);
}

/** The f16 bits of a small integer: the exponent of its leading one, the rest below it. */
function halfBits(v: number): number {
  if (v === 0) return 0;
  const e = Math.floor(Math.log2(Math.abs(v)));
  return (v < 0 ? 0x8000 : 0) | ((e + 15) << 10) | ((Math.abs(v) / 2 ** e - 1) * 1024);
}

function upload(backend: Backend, dtype: "f32" | "f16", data: Float32Array | Uint16Array, shape: readonly number[], made: View[]): View {
  const view: View = { buffer: backend.allocate(data.byteLength, "self-test"), dtype, layout: contiguousLayout(shape) };
  made.push(view);
  backend.write(view.buffer, 0, new Uint8Array(data.buffer));
  return view;
}

function firstError(got: Float32Array, factor: number): string | undefined {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let want = 0;
      for (let k = 0; k < inner; k++) want += valueA(i * inner + k) * valueB(k + j * inner) * factor;
      if (got[i * columns + j] !== want) return `gave ${got[i * columns + j]} instead of ${want} at [${i}, ${j}]`;
    }
  }
  return undefined;
}
