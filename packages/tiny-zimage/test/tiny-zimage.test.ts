// The files are there and whole, the list of names is the model's, and suggestions are sensible.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isTrainedPrompt, nearestNames, tinyZImage, tinyZImageNames } from "../src/index.ts";
import { editDistance } from "../src/nearest.ts";

const model = fileURLToPath(tinyZImage.modelUrl);

/** Sum of the tensor sizes a safetensors file announces, and what its size says. */
function tensorBytes(path: URL): { announced: number; present: number; dtypes: string[] } {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString()) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const { __metadata__, ...tensors } = header;
  const ends = Object.values(tensors).map((tensor) => tensor.data_offsets[1]);
  return {
    announced: Math.max(...ends),
    present: bytes.length - 8 - headerBytes,
    dtypes: [...new Set(Object.values(tensors).map((t) => t.dtype))],
  };
}

describe("files", () => {
  it("names every file a pipeline reads, below modelUrl", () => {
    for (const [path, url] of Object.entries(tinyZImage.files)) {
      expect(url.href).toBe(new URL(path, tinyZImage.modelUrl).href);
      if (path.endsWith(".json")) expect(() => JSON.parse(readFileSync(url, "utf8")), path).not.toThrow();
    }
    const present = readdirSync(model, { recursive: true, encoding: "utf8" }).filter((name) => /\.(json|safetensors)$/.test(name));
    const unlisted = present.map((name) => name.replaceAll("\\", "/")).filter((name) => !(name in tinyZImage.files));
    expect(unlisted.sort()).toEqual(["tokenizer/vocab.json", "training_info.json"]);
  });

  it.each(["transformer/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model"] as const)(
    "%s is whole and bf16",
    (part) => {
      const { announced, present, dtypes } = tensorBytes(tinyZImage.files[`${part}.safetensors`]);
      expect(present).toBe(announced);
      expect(dtypes).toEqual(["BF16"]);
    },
  );
});

describe("names", () => {
  it("is the first column of names.txt; run tools/generate-tiny-names.ts when this fails", () => {
    const lines = readFileSync(new URL("names.txt", tinyZImage.modelUrl), "utf8").trimEnd().split("\n");
    expect(tinyZImageNames).toEqual(lines.map((line) => line.split("\t", 1)[0]));
    expect(new Set(tinyZImageNames).size).toBe(532);
  });
});

describe("nearestNames", () => {
  it("puts a name first for itself and for every template", () => {
    for (const name of tinyZImageNames) expect(nearestNames(name, 1)).toEqual([name]);
    for (const prompt of ["a fox", "an emoji of a fox", "Fox emoji", "a cute fox on a white background"])
      expect(nearestNames(prompt, 1)).toEqual(["fox"]);
  });

  it("survives spelling mistakes and finds related names", () => {
    expect(nearestNames("foxx", 1)).toEqual(["fox"]);
    expect(nearestNames("butterfy", 1)).toEqual(["butterfly"]);
    expect(nearestNames("a car", 4)).toMatchInlineSnapshot(`
      [
        "police car",
        "racing car",
        "ear",
        "cat",
      ]
    `);
    expect(nearestNames("green apple pie", 3)).toMatchInlineSnapshot(`
      [
        "green apple",
        "pie",
        "green heart",
      ]
    `);
  });

  it("suggests nothing when nothing is close, and copes with empty and very long prompts", () => {
    expect(nearestNames("quantum chromodynamics")).toEqual([]);
    expect(nearestNames("")).toEqual([]);
    expect(nearestNames("x".repeat(1e6))).toEqual([]);
  });
});

describe("isTrainedPrompt", () => {
  it("accepts names in templates and nothing else", () => {
    expect(["fox", "a red apple", "Red apple emoji"].map(isTrainedPrompt)).toEqual([true, true, true]);
    expect(["foxx", "a blue apple", ""].map(isTrainedPrompt)).toEqual([false, false, false]);
  });
});

describe("editDistance", () => {
  it("counts insertions, deletions and replacements", () => {
    expect([editDistance("kitten", "sitting"), editDistance("", "abc"), editDistance("same", "same")]).toEqual([3, 3, 0]);
  });
});
