// A researcher's change to the model: another attention in one block, other guidance, in a pipeline on the weights of the released one.
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { fusedAttention, Linear, type RopeTable, withInitial } from "@wick/nn";
import { cpu, type Tensor, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { tinyZImage } from "@wick/tiny-zimage";
import { expect, test } from "vitest";
import {
  type OpenZImageOptions,
  ZImage,
  ZImageAttention,
  type ZImageConfig,
  type ZImagePipeline,
  type ZImageRequest,
  zImage,
} from "../src/index.ts";
import { comparePipeline } from "./tiny-pipeline.ts";

/** Attention whose result is gated by its input (arXiv:2505.06708); twice the gate, so that a closed gate changes nothing. */
class GatedAttention extends ZImageAttention {
  readonly to_gate: Linear;
  constructor(config: ZImageConfig) {
    super(config);
    this.to_gate = new Linear(config.width, config.width);
  }
  override forward(x: Tensor, rope: RopeTable, lengths?: Tensor): Tensor {
    const gate = this.to_gate.forward(x).sigmoid().mul(2);
    return this.to_out[0].forward(this.attend(x, rope, lengths).mul(gate));
  }
}

const gated = (config: ZImageConfig) =>
  new ZImage(config, { attentionAt: (path) => (path === "layers.1" ? new GatedAttention(config) : undefined) });

const open = (device: ZImagePipeline["device"], options: Partial<OpenZImageOptions> = {}) =>
  zImage(device, {
    files: localFolder(fileURLToPath(tinyZImage.modelUrl)),
    defaults: { width: 64, height: 64, steps: 2, guidance: 3 },
    ...options,
  });

async function latentsOf(options: Partial<OpenZImageOptions>, request: ZImageRequest = {}): Promise<Float32Array> {
  using device = cpu();
  let values = new Float32Array();
  {
    using pipe = await open(device, options);
    await pipe.generate({ prompt: "fox", latentsOut: (l) => (values = l.values as Float32Array<ArrayBuffer>), ...request });
  }
  expect(device.liveBytes).toBe(0);
  return values;
}

test("a new part with closed gates draws what the released model draws, whole and streamed; open gates do not", async () => {
  const withGates =
    (open: boolean): OpenZImageOptions["decorate"] =>
    (source, model) =>
      withInitial(source, model, {
        paths: ["**.to_gate.**"],
        generator: torchCpu(0),
        values: ({ parameter }) => (open ? undefined : new Float32Array(parameter.size)),
      });
  const usual = await latentsOf({});
  const closed = await latentsOf({ model: gated, decorate: withGates(false) });
  expect(relativeL2(closed, usual)).toBeLessThan(1e-5);
  expect(await latentsOf({ model: gated, decorate: withGates(false), maxGpuBytes: 16e6 })).toEqual(closed);
  expect(relativeL2(await latentsOf({ model: gated, decorate: withGates(true) }), usual)).toBeGreaterThan(1e-3);
});

test("a memory plan counts the weights and activations of the variant", async () => {
  using device = cpu();
  using usual = await open(device);
  const config = usual.parts.transformer.model.config;
  const decorate: OpenZImageOptions["decorate"] = (source, model) =>
    withInitial(source, model, { paths: ["**.to_gate.**"], generator: torchCpu(0) });
  using variant = await open(device, { model: gated, decorate });
  const denoise = async (pipe: ZImagePipeline) => (await pipe.plan({ prompt: "fox" })).memory.stages.find((s) => s.stage === "denoise")!;
  const [before, after] = [await denoise(usual), await denoise(variant)];
  expect(after.weightBytes - before.weightBytes).toBe(4 * (config.width ** 2 + config.width));
});

test("an attention function replaces that of one block", async () => {
  const config = await tinyConfig();
  const cold = (path: string) => (config: ZImageConfig) =>
    new ZImage(config, { attentionAt: (at) => (at === path ? (q, k, v, o) => fusedAttention(q.mul(0.5), k, v, o) : undefined) });
  const paths = ["noise_refiner.0", "context_refiner.0", `layers.${config.layers - 1}`];
  const all = await Promise.all(["", ...paths].map((path) => latentsOf({ model: cold(path) })));
  for (const one of all.slice(1)) expect(relativeL2(one, all[0]!)).toBeGreaterThan(1e-3);
  expect(new Set(all.map((l) => l.join())).size).toBe(all.length);
});

const tinyConfig = async (): Promise<ZImageConfig> => {
  using device = cpu();
  using pipe = await open(device);
  return pipe.parts.transformer.model.config;
};

test("a guidance rule takes the place of the usual one", async () => {
  using device = cpu();
  const worst = async (name: string, guidanceRule: ZImageRequest["guidanceRule"]) =>
    Math.max(...(await comparePipeline(device, name, { guidanceRule })).steps);
  // The usual formula, against diffusers; and one that forgets the negative side.
  expect(await worst("cfg", (p, n, { scale }) => p.add(p.sub(n).mul(scale)))).toBeLessThan(1e-4);
  expect(await worst("cfg", (p) => p)).toBeGreaterThan(5e-4);
  const seen: number[] = [];
  await worst("cfg-truncation", (p, n, { scale, sigma, sigmas, x }) => {
    seen.push(sigmas.indexOf(sigma));
    expect([scale > 0, x.shape]).toEqual([true, p.shape]);
    return p.add(p.sub(n).mul(scale));
  });
  // Not called once guidance is truncated.
  expect(seen).toEqual(seen.map((_, i) => i));
  expect(seen.length).toBeLessThan(8);
  await expect(worst("cfg", (p) => p.sum(0))).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: guidanceRule: returned sum f32 [16, 6, 10] for neg f32 [2, 16, 6, 10]]`,
  );
  expect(device.liveBytes).toBe(0);
});
