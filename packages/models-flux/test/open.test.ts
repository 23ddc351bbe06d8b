// Pipelines from files on disk: diffusers' folders, the authors' single files, GGUF; what is missing is named.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { type ClipConfig, ClipTextEncoder, clipL, siglipConfigFromJson, type T5Config, T5Encoder, t5Xxl } from "@wick/encoders";
import { localFolder, type ModelFiles, type OpenOptions } from "@wick/hub";
import { withLora } from "@wick/nn";
import {
  cpu,
  invert,
  memorySource,
  openSafetensors,
  remap,
  renameAll,
  type WeightSource,
  writableTensors,
  writeFileAtomically,
  writeGguf,
  writeSafetensors,
} from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { randomWeights } from "@wick/testing/memory-weights";
import { readModuleGolden } from "@wick/testing/module-golden";
import { autoencoderKlConfigFromJson, autoencoderKlFromBfl } from "@wick/vae";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type FluxPipeline,
  type FluxRequest,
  flux,
  flux1FromDiffusers,
  type OpenFluxOptions,
  ReduxPrior,
  variantOf,
} from "../src/index.ts";
import { openGolden, weightsOf } from "./parity-cases.ts";
import { readPipelineGolden, requestInputs } from "./tiny-flux.ts";

const root = mkdtempSync(join(tmpdir(), "wick-flux-"));
afterAll(() => rmSync(root, { recursive: true }));

const put = (path: string, content: string | Uint8Array): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
};
const putJson = (path: string, value: unknown): void => put(path, JSON.stringify(value));
async function putWeights(path: string, source: WeightSource): Promise<void> {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  const write = path.endsWith(".gguf") ? writeGguf : writeSafetensors;
  await writeFileAtomically(join(root, path), (sink) => write(sink, writableTensors(source)));
}

const t5: T5Config = { ...t5Xxl, vocabSize: 4000, width: 24, headWidth: 8, ffnWidth: 32, layers: 2, heads: 3 };
const clip: ClipConfig = { ...clipL, vocabSize: 190, width: 20, ffnWidth: 40, layers: 2, heads: 2 };
/** CLIP's tokenizer without merges: printable characters, and the same at word ends. */
const characters = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
const clipTokens = [...characters, ...characters.map((c) => `${c}</w>`), "<|startoftext|>", "<|endoftext|>"];
const spieceModel = () => gunzipSync(readFileSync(new URL("../../encoders/test/goldens/tokenizers/t5/spiece.model.gz", import.meta.url)));
const prompt = "a lighthouse in fog";

const transformerJson = {
  _class_name: "FluxTransformer2DModel",
  attention_head_dim: 16,
  guidance_embeds: true,
  in_channels: 64,
  joint_attention_dim: 24,
  num_attention_heads: 3,
  num_layers: 2,
  num_single_layers: 2,
  patch_size: 1,
  pooled_projection_dim: 20,
  axes_dims_rope: [4, 6, 6],
};

const siglipJson = {
  model_type: "siglip_vision_model",
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  image_size: 28,
  patch_size: 14,
};
const siglip = siglipConfigFromJson(siglipJson);

beforeAll(async () => {
  const golden = await openGolden("dev");
  const ours = await weightsOf(golden, "black-forest-labs");
  const vae = await readModuleGolden(new URL("../../vae/test/goldens/kl-tiled.safetensors", import.meta.url));
  // A repository in diffusers layout.
  putJson("diffusers/model_index.json", { _class_name: "FluxPipeline" });
  putJson("diffusers/transformer/config.json", transformerJson);
  await putWeights("diffusers/transformer/diffusion_pytorch_model.safetensors", remap(ours, invert(flux1FromDiffusers)));
  putJson("diffusers/vae/config.json", vae.config);
  await putWeights("diffusers/vae/diffusion_pytorch_model.safetensors", vae.weights);
  putJson("diffusers/scheduler/scheduler_config.json", {
    _class_name: "FlowMatchEulerDiscreteScheduler",
    use_dynamic_shifting: true,
    shift: 3,
    base_shift: 0.5,
    max_shift: 1.15,
    base_image_seq_len: 256,
    max_image_seq_len: 4096,
  });
  putJson("diffusers/text_encoder/config.json", {
    model_type: "clip_text_model",
    hidden_act: "quick_gelu",
    vocab_size: clip.vocabSize,
    max_position_embeddings: clip.positions,
    hidden_size: clip.width,
    intermediate_size: clip.ffnWidth,
    num_hidden_layers: clip.layers,
    num_attention_heads: clip.heads,
    layer_norm_eps: clip.eps,
    eos_token_id: 2,
  });
  await putWeights(
    "diffusers/text_encoder/model.safetensors",
    renameAll(randomWeights(new ClipTextEncoder(clip), 2), (name) => `text_model.${name}`),
  );
  putJson("diffusers/text_encoder_2/config.json", {
    model_type: "t5",
    feed_forward_proj: "gated-gelu",
    vocab_size: t5.vocabSize,
    d_model: t5.width,
    d_kv: t5.headWidth,
    d_ff: t5.ffnWidth,
    num_layers: t5.layers,
    num_heads: t5.heads,
    layer_norm_epsilon: t5.eps,
  });
  await putWeights("diffusers/text_encoder_2/model.safetensors", randomWeights(new T5Encoder(t5), 3));
  putJson("diffusers/tokenizer/vocab.json", Object.fromEntries(clipTokens.map((token, id) => [token, id])));
  put("diffusers/tokenizer/merges.txt", "#version: 0.2\n");
  put("diffusers/tokenizer_2/spiece.model", spieceModel());
  // FLUX.1 Redux: both folders of its repository, and the single files.
  const prior = new ReduxPrior({ encoder: siglip, embedder: { featureWidth: siglip.width, textWidth: 24 } });
  const weights = randomWeights(prior, 5);
  const part = (prefix: string) => renameAll(weights, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : undefined));
  const vision = renameAll(part("image_encoder."), (name) => `vision_model.${name}`);
  putJson("redux/image_encoder/config.json", siglipJson);
  await putWeights("redux/image_encoder/model.safetensors", vision);
  putJson("redux/image_embedder/config.json", { _class_name: "ReduxImageEncoder", redux_dim: siglip.width, txt_in_features: 24 });
  await putWeights("redux/image_embedder/diffusion_pytorch_model.safetensors", part("image_embedder."));
  putJson("redux/feature_extractor/preprocessor_config.json", { resample: 3, size: { height: 28, width: 28 } });
  // The authors' single files.
  await putWeights("single/flux1-dev.safetensors", ours);
  await putWeights("single/ae.safetensors", remap(vae.weights, invert(autoencoderKlFromBfl)));
  // As ComfyUI and GGUF files have them.
  await putWeights(
    "comfy/flux1-kontext-dev.safetensors",
    renameAll(ours, (name) => `model.diffusion_model.${name}`),
  );
  await putWeights("gguf/flux1-dev-F32.gguf", ours);
});

const folder = (name: string) => localFolder(join(root, name));
/** The goldens' network, where a single file does not say what it is. */
const tinyVae = async () =>
  autoencoderKlConfigFromJson((await readModuleGolden(new URL("../../vae/test/goldens/kl-tiled.safetensors", import.meta.url))).config);

/** Error of the golden's last latents. */
async function error(pipe: FluxPipeline): Promise<number> {
  const golden = await readPipelineGolden("dev");
  const { embeddings, latents, height, width } = requestInputs(pipe.device, golden);
  const run = pipe.steps({ embeddings, latents, height, width, steps: 8, guidance: 3.5 });
  for (;;) {
    const step = await run.next();
    if (!step.done) continue;
    using final = step.value;
    for (const t of [embeddings.text, embeddings.pooled, latents]) t?.dispose();
    return relativeL2((await final.toArray()) as Float32Array, golden.outputs.get("unpacked")!.values);
  }
}

describe("layouts", () => {
  test("diffusers' folders, from prompt to picture", async () => {
    using device = cpu();
    {
      using pipe = await flux(device, { files: folder("diffusers"), keepLoaded: false });
      expect(pipe.parts.variant.name).toBe("dev");
      expect(pipe.parts.variant.shift.kind).toBe("dynamic");
      expect(await error(pipe)).toBeLessThan(1e-5);
      const stages: string[] = [];
      const request = { prompt, width: 64, height: 32, steps: 2, seed: 5 };
      const picture = await pipe.generate({
        ...request,
        onProgress: (p) => void (p.stage === "load" && p.progress.index === 0 && stages.push(p.model)),
      });
      expect(picture).toMatchObject({ width: 64, height: 32 });
      expect(new Set(picture.rgb).size).toBeGreaterThan(20);
      expect([...new Set(stages)]).toEqual(["text_encoder", "text_encoder_2", "transformer", "vae"]);
      expect(device.liveBytes).toBe(0);
      expect((await pipe.generate(request)).rgb).toEqual(picture.rgb);
      expect((await pipe.generate({ ...request, prompt: "a red fox" })).rgb).not.toEqual(picture.rgb);
    }
    expect(device.liveBytes).toBe(0);
  });

  test("a prompt that is too long is refused before weights are read", async () => {
    using device = cpu();
    using pipe = await flux(device, { files: folder("diffusers") });
    const long = "fog ".repeat(600);
    await expect(pipe.generate({ prompt: long, width: 64, height: 32, steps: 1 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[TextTooLongError: t5Tokenizer.encode: the text has 1801 tokens, the limit is 512; shorten it, raise maxLength or allow truncate]`,
    );
    expect(device.liveBytes).toBe(0);
  });

  test("a plan reads headers by ranges: nothing is downloaded for it", async () => {
    using device = cpu();
    const opened: string[] = [];
    const files = new Proxy<ModelFiles>(folder("diffusers"), {
      get: (target, key) => {
        if (key !== "openAll") {
          const member = Reflect.get(target, key, target) as unknown;
          return typeof member === "function" ? member.bind(target) : member;
        }
        return (pattern: string, options?: OpenOptions) => {
          opened.push(`${pattern.split("/")[0]} ${options?.via ?? "download"}`);
          return target.openAll(pattern, options);
        };
      },
    });
    using pipe = await flux(device, { files, maxGpuBytes: 1000 });
    const request = { prompt, width: 64, height: 32, steps: 1 };
    await expect(pipe.generate(request)).rejects.toThrow(/needs .* maxGpuBytes is 0.0 MiB/);
    expect(opened).toEqual(["text_encoder ranges", "text_encoder_2 ranges", "transformer ranges", "vae ranges"]);
    opened.length = 0;
    using other = await flux(device, { files });
    await other.generate(request);
    expect(opened).toEqual(["text_encoder download", "text_encoder_2 download", "transformer download", "vae download"]);
  });

  test("dev with a control adapter follows a map", async () => {
    using device = cpu();
    const lora = new URL("./goldens/control-lora.safetensors", import.meta.url);
    const options = {
      files: folder("diffusers"),
      text: false,
      variant: "depth-dev",
      decorate: async (source: WeightSource) => withLora(source, await openSafetensors(memorySource(readFileSync(lora), "lora")), 0.85),
    };
    using pipe = await flux(device, options);
    expect(pipe.parts.variant).toMatchObject({ name: "depth-dev", picture: "control", config: { inChannels: 128 } });
    using text = device.zeros([1, 3, 24]);
    using pooled = device.zeros([1, 20]);
    const rgb = Uint8Array.from({ length: 3 * 64 * 32 }, (_, i) => (i * 7) % 256);
    const image = { width: 64, height: 32, rgb };
    const request = { embeddings: { text, pooled }, image, steps: 1, seed: 2 };
    const other = { ...request, image: { ...image, rgb: rgb.map((v) => 255 - v) } };
    expect((await pipe.generate(request)).rgb).not.toEqual((await pipe.generate(other)).rgb);
  });

  test("Redux: a picture beside a prompt, and one without text encoders", async () => {
    using device = cpu();
    const files = folder("diffusers");
    const image = { width: 20, height: 10, rgb: Uint8Array.from({ length: 600 }, (_, i) => (i * 7) % 256) };
    const request = { redux: [{ image }], width: 64, height: 32, steps: 1, seed: 2 };
    {
      using pipe = await flux(device, { files, redux: folder("redux"), keepLoaded: false });
      const loaded: string[] = [];
      const onProgress: FluxRequest["onProgress"] = (p) => void (p.stage === "load" && p.progress.index === 0 && loaded.push(p.model));
      const picture = await pipe.generate({ ...request, prompt, onProgress });
      expect(loaded).toEqual(["text_encoder", "text_encoder_2", "redux", "transformer", "vae"]);
      expect(picture.rgb).not.toEqual((await pipe.generate({ ...request, redux: undefined, prompt })).rgb);
      expect(Object.keys(pipe.networks)).toEqual([
        "text_encoder",
        "text_encoder_2",
        "image_encoder",
        "image_embedder",
        "transformer",
        "vae",
      ]);
      using alone = await flux(device, { files, redux: folder("redux"), text: false, keepLoaded: false });
      expect((await alone.generate(request)).rgb).toEqual((await pipe.generate(request)).rgb);
    }
    expect(device.liveBytes).toBe(0);
  });

  test("within a limit text encoders and the transformer stream, to the same picture", async () => {
    using device = cpu();
    const files = folder("diffusers");
    const request = { prompt, width: 64, height: 32, steps: 2, seed: 5 };
    using whole = await flux(device, { files, keepLoaded: false });
    const needs = (await whole.plan(request)).memory.stages;
    expect(needs.map((s) => s.stage)).toEqual(["encodePooled", "encode", "denoise", "decode"]);
    const encode = needs.find((s) => s.stage === "encode")!;
    const picture = await whole.generate(request);
    // As little as T5, or the autoencoder that cannot stream, can do with.
    const t5 = await whole.parts.text!.t5.weights.bytes!();
    const maxGpuBytes = Math.max(encode.activationBytes + t5.least + 1, needs.at(-1)!.peakBytes);
    using pipe = await flux(device, { files, maxGpuBytes });
    const { memory } = await pipe.plan(request);
    expect(memory.stages.filter((s) => s.streamBytes !== undefined).map((s) => s.stage)).toContain("encode");
    device.resetPeak();
    expect((await pipe.generate(request)).rgb).toEqual(picture.rgb);
    expect(device.peakBytes).toBeLessThanOrEqual(maxGpuBytes);
    expect(device.liveBytes).toBe(0);
  });

  test.each<[string, Partial<OpenFluxOptions>]>([
    ["single", {}],
    ["comfy", {}],
    ["gguf", { transformer: "*.gguf" }],
  ])("single files: %s", async (name, options) => {
    using device = cpu();
    const variant = { ...(await flux(device, { files: folder("diffusers") })).parts.variant, name: "mine" };
    {
      using pipe = await flux(device, {
        files: folder(name),
        companions: folder("diffusers"),
        variant,
        vaeConfig: await tinyVae(),
        ...options,
      });
      expect(await error(pipe)).toBeLessThan(1e-5);
      await pipe.generate({ prompt, width: 64, height: 32, steps: 1 });
    }
    expect(device.liveBytes).toBe(0);
  });
});

describe("what is missing or does not fit is named", () => {
  const refused = (options: Partial<OpenFluxOptions>) => flux(cpu(), { files: folder("diffusers"), ...options });
  const anonymous = async (promise: Promise<unknown>): Promise<string> =>
    promise.then(
      () => "opened",
      (e: Error) => `${e.name}: ${e.message.replaceAll(root, "")}`,
    );

  test("parts", async () => {
    expect(await anonymous(refused({ files: folder("comfy") }))).toMatchInlineSnapshot(
      `"UnsupportedError: fluxConfigFromWeights: heads are 16 wide, not 128; pass a variant whose config has ropeAxes for them"`,
    );
    expect(await anonymous(refused({ files: folder("comfy"), transformer: "*.gguf" }))).toMatchInlineSnapshot(
      `"RequestError: flux: cannot tell the transformer in /comfy: no transformer/config.json and no single file; name its file with the option transformer"`,
    );
    const { variant } = (await refused({})).parts;
    expect(await anonymous(refused({ files: folder("comfy"), variant }))).toMatchInlineSnapshot(
      `"RequestError: flux: /comfy has neither vae/ nor ae.safetensors; pass companions: a repository that has one"`,
    );
    expect(await anonymous(refused({ files: folder("single"), variant }))).toMatchInlineSnapshot(
      `"RequestError: flux: /single: neither text_encoder/ nor clip_l*.{safetensors,gguf}; pass companions: a repository that has it, or text: false to bring embeddings"`,
    );
    putJson("empty/config.json", {});
    expect(await anonymous(refused({ files: folder("empty") }))).toMatchInlineSnapshot(
      `"RequestError: flux: cannot tell the transformer in /empty: no transformer/config.json and no single file; name its file with the option transformer"`,
    );
    put("two/flux1-dev.safetensors", "x");
    put("two/flux1-schnell.safetensors", "x");
    put("two/flux1-redux-dev.safetensors", "x");
    put("two/sigclip_vision_patch14_384.safetensors", "x");
    expect(await anonymous(refused({ files: folder("two") }))).toMatchInlineSnapshot(
      `"RequestError: flux: cannot tell the transformer in /two: flux1-dev.safetensors, flux1-schnell.safetensors; name its file with the option transformer"`,
    );
  });

  test("Redux", async () => {
    const redux = (name: string) => anonymous(refused({ redux: folder(name), text: false }));
    expect(await redux("single")).toMatchInlineSnapshot(
      `"RequestError: flux: /single: neither image_encoder/ nor sig{clip,lip}*.safetensors; pass redux: a repository such as black-forest-labs/FLUX.1-Redux-dev"`,
    );
    putJson("no-embedder/image_encoder/config.json", siglipJson);
    expect(await redux("no-embedder")).toMatchInlineSnapshot(
      `"RequestError: flux: /no-embedder: neither image_embedder/ nor flux1-redux*.safetensors; pass redux: a repository such as black-forest-labs/FLUX.1-Redux-dev"`,
    );
    putJson("wide/image_encoder/config.json", siglipJson);
    putJson("wide/image_embedder/config.json", { redux_dim: 16 });
    expect(await redux("wide")).toMatchInlineSnapshot(
      `"RequestError: flux: /wide makes tokens 4096 wide, the transformer's text is 24 wide"`,
    );
    putJson("wide/image_embedder/config.json", {});
    expect(await redux("wide")).toMatchInlineSnapshot(
      `"UnsupportedError: ReduxPrior: the encoder's features are 16 wide, the embedder reads 1152"`,
    );
    putJson("wide/image_embedder/config.json", { redux_dim: 16, txt_in_features: 24, bias: false });
    expect(await redux("wide")).toMatchInlineSnapshot(`"UnsupportedError: reduxConfigFromJson: "bias": false is not supported"`);
    putJson("wide/image_embedder/config.json", { redux_dim: 16, txt_in_features: 24 });
    putJson("wide/feature_extractor/preprocessor_config.json", { resample: 1, size: { height: 28, width: 28 } });
    expect(await redux("wide")).toMatchInlineSnapshot(
      `"UnsupportedError: checkSiglipProcessor: "resample" is 1, pictures are prepared with 3"`,
    );
    put("redux-comfy/flux1-redux-dev.safetensors", "x");
    put("redux-comfy/sigclip_vision_patch14_384.safetensors", "x");
    expect(await redux("redux-comfy")).toMatchInlineSnapshot(
      `"RequestError: flux: /redux-comfy makes tokens 4096 wide, the transformer's text is 24 wide"`,
    );
  });

  test("variants and configs", async () => {
    expect(await anonymous(refused({ variant: "pro" }))).toMatchInlineSnapshot(
      `"RequestError: flux: unknown variant "pro"; known are dev, schnell, krea-dev, kontext-dev, fill-dev, depth-dev, canny-dev"`,
    );
    expect(await anonymous(refused({ variant: "schnell" }))).toMatchInlineSnapshot(
      `"RequestError: flux: the transformer is not of the variant schnell: it has 64 input channels and a guidance embedder"`,
    );
    putJson("odd/transformer/config.json", { ...transformerJson, axes_dims_rope: [4, 6, 8] });
    expect(await anonymous(refused({ files: folder("odd") }))).toMatchInlineSnapshot(
      `"UnsupportedError: fluxConfigFromJson: "axes_dims_rope" is a list of even numbers that add up to the head width 16, got [4,6,8]"`,
    );
    putJson("sd3/transformer/config.json", { _class_name: "SD3Transformer2DModel", caption_projection_dim: 1536 });
    expect(await anonymous(refused({ files: folder("sd3") }))).toMatchInlineSnapshot(
      `"UnsupportedError: fluxConfigFromJson: "caption_projection_dim": 1536 is not supported; is this a FLUX.1 transformer?"`,
    );
  });
});

test("releases are told by widths, guidance and names", () => {
  const of = (inChannels: number, guidance: boolean, ...hints: string[]) =>
    variantOf({ inChannels, outChannels: 64, guidance }, hints).name;
  expect(of(64, true)).toBe("dev");
  expect(of(64, false)).toBe("schnell");
  expect(of(384, true)).toBe("fill-dev");
  expect(of(128, true, "flux1-depth-dev.safetensors")).toBe("depth-dev");
  expect(of(128, true, "FluxControlPipeline")).toBe("canny-dev");
  expect(of(64, true, "flux1-krea-dev.safetensors")).toBe("krea-dev");
  expect(of(64, true, "FluxKontextPipeline")).toBe("kontext-dev");
  expect(of(64, true, "black-forest-labs/FLUX.1-Kontext-dev")).toBe("kontext-dev");
});
