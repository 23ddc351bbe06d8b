// Trust in a tier is earned: before its kernels are used, a product of small integers must come out exactly. Drivers have shipped
// wrong subgroup matrices and wrong f16; the verdict is kept per adapter for the life of the process.
import { contiguousLayout, permuteLayout } from "../../layout.ts";
import type { Backend, View } from "../backend.ts";
import type { DeviceTraits, Tier } from "./limits.ts";
import type { OpenedDevice, WebGpuOptions } from "./open.ts";

const slower: Readonly<Record<Tier, Tier>> = { matrix: "subgroups", subgroups: "plain", plain: "plain" };
const verdicts = new Map<string, string | undefined>();

/** The fastest tier whose kernels compute correctly here, and why a faster one was turned down. A forced tier is not tested. */
export async function trustedTraits(
  opened: OpenedDevice,
  traits: DeviceTraits,
  options: WebGpuOptions,
  make: (traits: DeviceTraits) => Backend,
): Promise<{ traits: DeviceTraits; note: string | undefined }> {
  let note: string | undefined;
  let current = traits;
  while (!options.tier && options.driver !== "null" && current.tier !== "plain") {
    const { info } = opened;
    const key = [info.vendor, info.architecture, info.device, info.description, opened.driver, current.tier].join("|");
    if (!verdicts.has(key)) verdicts.set(key, await failureOf(make(current)));
    const failure = verdicts.get(key);
    if (failure === undefined) break;
    note = `${note ? `${note}; ` : ""}the ${current.tier} tier was turned down: ${failure}`;
    current = { ...current, tier: slower[current.tier] };
  }
  return { traits: current, note };
}

const [rows, inner, columns] = [144, 160, 140];
const valueA = (i: number): number => ((i * 7) % 13) - 6;
const valueB = (i: number): number => ((i * 5) % 11) - 5;

/** Multiplies small integers in f16 and compares with the exact result; the reason when it fails. */
async function failureOf(backend: Backend): Promise<string | undefined> {
  const made: View[] = [];
  try {
    const a = halves(backend, rows * inner, valueA, made);
    const b = halves(backend, inner * columns, valueB, made);
    const out: View = {
      buffer: backend.allocate(rows * columns * 4, "self-test"),
      dtype: "f32",
      layout: contiguousLayout([rows, columns]),
    };
    made.push(out);
    const transposed = permuteLayout(contiguousLayout([columns, inner]), [1, 0]);
    backend.kernels.matmul(out, { a: { ...a, layout: contiguousLayout([rows, inner]) }, b: { ...b, layout: transposed } }, {});
    const got = new Float32Array((await backend.read(out.buffer, 0, rows * columns * 4)).buffer);
    return firstError(got);
  } catch (error) {
    return error instanceof Error ? error.message.split("\n")[0] : String(error);
  } finally {
    for (const v of made) backend.release(v.buffer);
    backend.trim();
  }
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
      for (let k = 0; k < inner; k++) want += valueA(i * inner + k) * valueB(j * inner + k);
      if (got[i * columns + j] !== want) return `matmul gave ${got[i * columns + j]} instead of ${want} at [${i}, ${j}]`;
    }
  }
  return undefined;
}
