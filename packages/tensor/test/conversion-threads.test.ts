// Weights quantized on other threads while they stream: the bytes of one thread, errors that say the same, and nothing left behind.
import { afterEach, describe, expect, it } from "vitest";
import { bytesOf, type DType, dtypeInfo } from "../src/dtype.ts";
import { ConversionThreads, convertPieces, type WeightSource } from "../src/index.ts";
import { streamAs } from "../src/loaders/convert.ts";
import { jobValues } from "../src/quant/wasm/run.ts";
import { torchCpu } from "../src/random/torch-cpu.ts";
import { memorySourceOf } from "./memory-weights.ts";

/** Some jobs and a part of one, more values than it takes to start threads. */
const rows = 9 * (jobValues / 1024) + 3;
const values = torchCpu(1).randn(rows * 1024, "f32") as Float32Array;
const bytes = new Uint8Array(values.buffer);
const source = (data: Uint8Array = bytes, pieceBytes = 777_216): WeightSource =>
  memorySourceOf({ w: { dtype: "f32", shape: [rows, 1024], bytes: data } }, { pieceBytes });

const opened: ConversionThreads[] = [];
const threadsOf = (count: number): ConversionThreads => {
  const threads = new ConversionThreads(count);
  opened.push(threads);
  return threads;
};
afterEach(() => {
  for (const threads of opened.splice(0)) threads.close();
});

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece.slice());
  return new Uint8Array(Buffer.concat(parts));
}

/** Streams until threads have answered: only then do they take jobs. */
async function warm(threads: ConversionThreads): Promise<void> {
  const deadline = performance.now() + 30_000;
  while ((threads.ready < threads.threads || threads.isStarting) && performance.now() < deadline) {
    await collect(streamAs(source(), "w", "q3_K", { threads }));
  }
  expect(threads.ready).toBe(threads.threads);
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

describe("quantizing on threads", () => {
  it("gives the bytes of the calling thread, several streams at a time, whatever the pieces", async () => {
    const threads = threadsOf(2);
    await warm(threads);
    const stream = async (to: DType, pieceBytes: number) => {
      const alone = await collect(streamAs(source(), "w", to));
      const shared = await collect(streamAs(source(bytes, pieceBytes), "w", to, { threads }));
      expect(shared.length).toBe(bytesOf(to, values.length));
      expect(same(shared, alone)).toBe(true);
    };
    await Promise.all([stream("q3_K", 40_004), stream("q4_K", 1 << 22), stream("iq4_xs", 999_996)]);
    await stream("iq4_nl", 65_536);
  });

  it("quantizes bf16 and blocks of another format", async () => {
    const threads = threadsOf(1);
    await warm(threads);
    for (const from of ["bf16", "q8_0"] as const) {
      const stored = await collect(streamAs(source(), "w", from));
      const again = () => memorySourceOf({ w: { dtype: from, shape: [rows, 1024], bytes: stored } });
      const alone = await collect(streamAs(again(), "w", "iq4_nl"));
      expect(same(await collect(streamAs(again(), "w", "iq4_nl", { threads })), alone)).toBe(true);
    }
  });

  it("says what one thread says about values that do not fit", async () => {
    const threads = threadsOf(2);
    await warm(threads);
    const wrong = values.slice();
    wrong[5 * jobValues + 77] = Number.NaN;
    const stream = (options: object) => collect(streamAs(source(new Uint8Array(wrong.buffer)), "w", "q3_K", options));
    await expect(stream({})).rejects.toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: convert: cannot quantize w: quantize: q3_K cannot hold NaN: value 77; keep this tensor in bf16 or mend the weights]`,
    );
    await expect(stream({ threads })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: convert: cannot quantize w: quantize: q3_K cannot hold NaN: value 77; keep this tensor in bf16 or mend the weights]`,
    );
  });

  it("stops when its signal does, and when nobody wants more", async () => {
    const threads = threadsOf(2);
    await warm(threads);
    const abort = new AbortController();
    const run = async () => {
      for await (const _ of streamAs(source(), "w", "q3_K", { threads, signal: abort.signal })) abort.abort(new Error("enough"));
    };
    await expect(run()).rejects.toThrow("enough");
    for await (const _ of streamAs(source(), "w", "q3_K", { threads })) break;
    const alone = await collect(streamAs(source(), "w", "iq4_nl"));
    expect(same(await collect(streamAs(source(), "w", "iq4_nl", { threads })), alone)).toBe(true);
  });

  it("goes on alone when a thread ends, and fails when all are closed in the middle", async () => {
    const threads = threadsOf(1);
    await warm(threads);
    const broken = { key: "broken", bytes: new Uint8Array(8), inputAt: 0, outputAt: 0, pages: 1 };
    expect(await threads.convert(broken, new Uint8Array(4), 1, 4)).toBeUndefined();
    expect(threads.ready).toBe(0);
    const alone = await collect(streamAs(source(), "w", "q3_K"));
    expect(same(await collect(streamAs(source(), "w", "q3_K", { threads })), alone)).toBe(true);

    const others = threadsOf(1);
    await warm(others);
    const closing = async () => {
      for await (const _ of streamAs(source(), "w", "q2_K", { threads: others })) others.close();
    };
    await expect(closing()).rejects.toThrowErrorMatchingInlineSnapshot(
      `[DeviceError: convert: the threads were closed while weights stream through them]`,
    );
  });

  it("starts none for little work, for formats that are quick to make, and when none are wanted", async () => {
    const [some, none] = [threadsOf(2), threadsOf(0)];
    const little = memorySourceOf({ w: { dtype: "f32", shape: [4, 1024], bytes: bytes.slice(0, 16_384) } });
    await collect(streamAs(little, "w", "q4_K", { threads: some }));
    expect([some.ready, some.isStarting]).toEqual([0, false]);
    await collect(streamAs(source(), "w", "q3_K", { threads: none }));
    await collect(streamAs(source(), "w", "q8_0", { threads: some }));
    expect([some.ready, some.isStarting, none.ready, none.isStarting]).toEqual([0, false, 0, false]);
  });

  it("refuses rows that are not whole blocks", async () => {
    const threads = threadsOf(1);
    const { blockSize } = dtypeInfo.iq4_nl;
    const odd = new Uint8Array(4 * (blockSize + 1));
    const pieces = async function* () {
      yield odd;
    };
    await expect(collect(convertPieces(pieces(), "f32", "iq4_nl", "w", { threads }))).rejects.toThrow(
      "rows are not whole iq4_nl blocks of 32: w",
    );
  });
});
