// Trust in a tier is earned: before its kernels are used, they must get a few products exactly right. Drivers have shipped wrong subgroup
// matrices and wrong f16. The verdict is kept per adapter for the life of the process.
import { contiguousLayout, permuteLayout } from "../../layout.ts";
import type { Backend, View } from "../backend.ts";
import type { DeviceTraits } from "./limits.ts";
import type { OpenedDevice, WebGpuOptions } from "./open.ts";
import { adapterName, type Tier, tiers } from "./tier.ts";

/** One family of kernels that differs between tiers: computes something whose exact result is known; the reason when it is wrong. */
interface TierTest {
  readonly op: string;
  failure(backend: Backend, made: View[]): Promise<string | undefined>;
}

/** Every kernel family with tiers has its line here. */
const tests: readonly TierTest[] = [{ op: "matmul", failure: matmulFailure }];

/** Failure messages by adapter and tier; undefined for a tier that passed. */
const verdicts = new Map<string, string | undefined>();

/** The traits with the fastest tier whose kernels compute correctly here, and the reason when a faster one was turned down. A forced tier is not tested. */
export async function trustedTraits(
  { info, driver }: OpenedDevice,
  traits: DeviceTraits,
  options: WebGpuOptions,
  make: (traits: DeviceTraits) => Backend,
): Promise<DeviceTraits> {
  if (options.tier || options.driver === "null") return traits;
  let current = traits;
  while (current.tier !== "plain") {
    const key = [adapterName(info, driver), current.tier, options.robustness].join("|");
    if (!verdicts.has(key)) verdicts.set(key, await failureOf(make(current)));
    const failure = verdicts.get(key);
    if (failure === undefined) return current;
    current = { ...current, tier: lower(current.tier), tierReason: turnedDown(current, traits, failure) };
  }
  return current;
}

const lower = (tier: Tier): Tier => tiers[tiers.indexOf(tier) - 1] ?? "plain";

/** The reason so far, when it already tells of a failure, and this one. */
function turnedDown(current: DeviceTraits, first: DeviceTraits, failure: string): string {
  const before = current.tierReason === first.tierReason ? "" : `${current.tierReason}; `;
  return `${before}the ${current.tier} tier failed its self-test: ${failure}`;
}

async function failureOf(backend: Backend): Promise<string | undefined> {
  for (const { op, failure } of tests) {
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

/** What a product of this backend gets wrong, or undefined: small integers in f16, whose product is exact in every order of summation. */
export async function matmulFailure(backend: Backend, made: View[]): Promise<string | undefined> {
  const a = halves(backend, rows * inner, valueA, made);
  const b = halves(backend, inner * columns, valueB, made);
  const buffer = backend.allocate(rows * columns * 4, "self-test");
  const out: View = { buffer, dtype: "f32", layout: contiguousLayout([rows, columns]) };
  made.push(out);
  const transposed = permuteLayout(contiguousLayout([columns, inner]), [1, 0]);
  backend.kernels.matmul(out, { a: { ...a, layout: contiguousLayout([rows, inner]) }, b: { ...b, layout: transposed } }, {});
  return firstError(new Float32Array((await backend.read(buffer, 0, rows * columns * 4)).buffer));
}

/** Small integers as f16 (their bits: the exponent of the leading one, the rest below it). */
function halves(backend: Backend, count: number, value: (i: number) => number, made: View[]): View {
  const bits = Uint16Array.from({ length: count }, (_, i) => {
    const v = value(i);
    if (v === 0) return 0;
    const e = Math.floor(Math.log2(Math.abs(v)));
    return (v < 0 ? 0x8000 : 0) | ((e + 15) << 10) | ((Math.abs(v) / 2 ** e - 1) * 1024);
  });
  const view: View = { buffer: backend.allocate(bits.byteLength, "self-test"), dtype: "f16", layout: contiguousLayout([count]) };
  made.push(view);
  backend.write(view.buffer, 0, new Uint8Array(bits.buffer));
  return view;
}

function firstError(got: Float32Array): string | undefined {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let want = 0;
      for (let k = 0; k < inner; k++) want += valueA(i * inner + k) * valueB(k + j * inner);
      if (got[i * columns + j] !== want) return `gave ${got[i * columns + j]} instead of ${want} at [${i}, ${j}]`;
    }
  }
  return undefined;
}
