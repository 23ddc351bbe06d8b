// Mutation fuzzing: thousands of flipped, overwritten, cut and repeated bytes per format. Every attempt to open and read must end in
// success or in one of our typed errors, without asking for more memory than the file can justify.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TensorError } from "../src/errors.ts";
import { openWeights } from "../src/loaders/open.ts";
import { openSafetensorsIndex } from "../src/loaders/safetensors.ts";
import { type ByteSource, memorySource } from "../src/loaders/source.ts";
import { torchCpu } from "../src/random/torch-cpu.ts";

const file = (name: string): Uint8Array => Uint8Array.from(readFileSync(new URL(`./goldens/formats/${name}`, import.meta.url)));
/** Where the header and other structure lie, which is where most mutations go. */
const structure: Record<string, number> = {
  "all.safetensors": 1200,
  "all.gguf": 1800,
  "stored.npz": 5000,
  "deflated.npz": 4000,
  "one.npy": 140,
  "nested-p2.pth": 5700,
  "nested-p4.pth": 5400,
  "legacy.pth": 2400,
};
const ROUNDS = 2500;

type Random = (below: number) => number;

function seeded(seed: number): Random {
  const g = torchCpu(seed);
  let words: Int32Array = new Int32Array(0);
  let at = 0;
  return (below) => {
    if (at === words.length) {
      words = g.randint(0, 2 ** 27, 4096);
      at = 0;
    }
    return words[at++]! % below;
  };
}

/** Values that break readers: ends of ranges in every width. */
const nasty = [0, 1, 0x7f, 0x80, 0xff];

function mutate(original: Uint8Array, random: Random, span: number): Uint8Array {
  const bytes = original.slice();
  const place = (): number => (random(8) === 0 ? random(bytes.length) : random(Math.min(span, bytes.length)));
  for (let k = random(3) + 1; k > 0; k--) {
    const kind = random(6);
    const at = place();
    if (kind === 0) bytes[at]! ^= 1 << random(8);
    else if (kind === 1) bytes[at] = random(256);
    else if (kind === 2) bytes.fill(nasty[random(5)]!, at, at + 1 + random(8));
    else if (kind === 3) return bytes.subarray(0, at);
    else if (kind === 4) bytes.copyWithin(at, place(), place());
    else bytes[at] = 0x30 + random(10);
  }
  return bytes;
}

const MOST_STREAMED = 8 * 2 ** 20;

/** A source that fails the test when asked for more than the file has. */
function guarded(bytes: Uint8Array): ByteSource {
  const inner = memorySource(bytes, "fuzzed");
  return {
    ...inner,
    read(offset, length, signal) {
      if (length > bytes.length) throw new Error(`asked for ${length} bytes of ${bytes.length}`);
      return inner.read(offset, length, signal);
    },
  };
}

async function attempt(bytes: Uint8Array): Promise<"opened" | "refused"> {
  try {
    const weights = await openWeights(guarded(bytes));
    let streamed = 0;
    for (const name of weights.entries.keys()) {
      for await (const piece of weights.stream(name, { chunkBytes: 1 << 20 })) {
        streamed += piece.length;
        if (streamed > MOST_STREAMED) return "opened";
      }
    }
    await weights.close();
    return "opened";
  } catch (error) {
    if (error instanceof TensorError) return "refused";
    throw error;
  }
}

describe("mutated checkpoints", () => {
  it.each(Object.entries(structure))("%s", async (name, span) => {
    const original = file(name);
    const random = seeded(original.length);
    const seen = { opened: 0, refused: 0 };
    expect(await attempt(original)).toBe("opened");
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = mutate(original, random, span);
      const result = await attempt(bytes).catch((error: unknown) => {
        throw new Error(`round ${round} ended in an untyped error`, { cause: error });
      });
      seen[result]++;
    }
    expect(seen.refused).toBeGreaterThan(ROUNDS / 20);
    expect(seen.opened).toBeGreaterThan(0);
  });

  it("every length of a truncated file", async () => {
    for (const name of ["all.safetensors", "one.npy", "legacy.pth"]) {
      const original = file(name);
      for (let length = 0; length < original.length; length++) {
        expect(await attempt(original.subarray(0, length)), `${name} cut to ${length}`).toBe("refused");
      }
    }
  });

  it("index files", async () => {
    const original = file("m.safetensors.index.json");
    const random = seeded(9);
    for (let round = 0; round < ROUNDS; round++) {
      const index = memorySource(mutate(original, random, original.length), "index");
      const open = openSafetensorsIndex(index, async (shard) => {
        expect(shard).toMatch(/^[^/\\:]+$/);
        return memorySource(file("m-00001-of-00002.safetensors"), shard);
      });
      await open.catch((error: unknown) => expect(error).toBeInstanceOf(TensorError));
    }
  });
});
