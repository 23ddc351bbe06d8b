// Every case of two PyTorch releases by the hash of its bytes, and the scalar draw after it, which pins the generator's state.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type RandomDType, type TorchCpuStream, torchCpu } from "../src/random/torch-cpu.ts";

interface Case {
  readonly op: "randn" | "rand";
  readonly seed: number;
  readonly shape: readonly number[];
  readonly dtype: RandomDType;
  readonly sha256_le_bytes: string;
  readonly next_randn1_f32?: number;
}

const cases = (file: string): Case[] =>
  (JSON.parse(readFileSync(new URL(`./fixtures/${file}`, import.meta.url), "utf8")) as { cases: Case[] }).cases;

const sha256 = (values: ArrayBufferView): string =>
  createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");

function check(c: Case, stream: TorchCpuStream): void {
  const g = torchCpu(c.seed, stream);
  const n = c.shape.reduce((a, b) => a * b, 1);
  expect(sha256(g[c.op](n, c.dtype))).toBe(c.sha256_le_bytes);
  if (c.next_randn1_f32 !== undefined) expect(g.randn(1)[0]).toBe(c.next_randn1_f32);
}

const title = (c: Case): string => `${c.op} seed ${c.seed} [${c.shape}] ${c.dtype}`;

describe("torch 2.13 (torch-cpu)", () => {
  for (const c of cases("torch-cpu-rng-2.13.json")) it(title(c), () => check(c, "torch-cpu"));
});

describe("torch 1.13 (torch-cpu-legacy)", () => {
  for (const c of cases("torch-cpu-rng-1.13.json")) it(title(c), () => check(c, "torch-cpu-legacy"));
});
