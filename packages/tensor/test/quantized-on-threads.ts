// For pages: what threads make of a stream of weights, against the plain loops.
import { bytesOf } from "../src/dtype.ts";
import { ConversionThreads, convertPieces } from "../src/index.ts";
import { quantizePlain } from "../src/quant/encode.ts";
import { torchCpu } from "../src/random/torch-cpu.ts";

const count = 2 ** 22;

/** How many bytes of q3_K differ once two threads take part, and how many threads do. */
export async function quantizedOnThreads(): Promise<{ readonly different: number; readonly ready: number }> {
  using threads = new ConversionThreads(2);
  const values = torchCpu(1).randn(count, "f32") as Float32Array;
  async function* pieces() {
    for (let at = 0; at < count; at += 2 ** 20) yield new Uint8Array(values.buffer, 4 * at, 2 ** 22);
  }
  const quantize = async () => {
    const out = new Uint8Array(bytesOf("q3_K", count));
    let at = 0;
    for await (const piece of convertPieces(pieces(), "f32", "q3_K", "weight", { threads })) {
      out.set(piece, at);
      at += piece.length;
    }
    return out;
  };
  const deadline = performance.now() + 30_000;
  while (threads.ready < 2 && performance.now() < deadline) await quantize();
  const [got, want] = [await quantize(), new Uint8Array(bytesOf("q3_K", count))];
  quantizePlain("q3_K", values, 0, want, 0, count);
  return { different: got.filter((byte, i) => byte !== want[i]).length, ready: threads.ready };
}
