// Prompts to what a diffusion model is conditioned on: a tokenizer and a text encoder, put together as each pipeline wants them.
// After huggingface/diffusers src/diffusers/pipelines/z_image/pipeline_z_image.py and pipelines/flux/pipeline_flux.py.
import { type BlockDriver, runBlocksAsync } from "@wick/nn";
import { type Device, hold, ShapeError, scope, type Tensor } from "@wick/tensor";
import type { ClipTextEncoder } from "./clip.ts";
import type { Qwen3 } from "./qwen3.ts";
import type { T5Encoder } from "./t5.ts";
import type { QwenTokenizer } from "./tokenizers/qwen.ts";
import type { Encoding, Tokenizer } from "./tokenizers/tokenizer.ts";

/** One prompt or several. */
export type Prompts = string | readonly string[];

/** `signal` aborts between blocks; `before` and `after` bring the weights of a block in and let them go. */
export interface EncodePromptOptions extends BlockDriver {
  /** Where the weights are. Default: where the embedding was loaded to. */
  readonly device?: Device | undefined;
  /** Cut what is too long, as the references do, instead of throwing TextTooLongError. */
  readonly truncate?: boolean | undefined;
}

function promptList(op: string, prompts: Prompts): readonly string[] {
  const list = typeof prompts === "string" ? [prompts] : prompts;
  if (list.length === 0) throw new ShapeError(op, "there are no prompts to encode");
  return list;
}

/** Rows of equal length, filled on the right. */
function padded(encodings: readonly Encoding[], padTokenId: number, atLeast = 0): Int32Array[] {
  const length = encodings.reduce((most, { ids }) => Math.max(most, ids.length), atLeast);
  return encodings.map(({ ids }) => {
    const row = new Int32Array(length).fill(padTokenId);
    row.set(ids);
    return row;
  });
}

/** How prompts become Qwen3's tokens. */
export interface QwenPromptOptions {
  /** Most tokens of a rendered prompt. Default 512. */
  readonly maxLength?: number;
  /** What the chat template sees. Default true, as Z-Image; FLUX.2 klein has false. */
  readonly enableThinking?: boolean;
}

/** Z-Image: the user's turn of a chat, all hidden states after the layers that `model` has (build one less: `{ layers: 35 }`). */
export class QwenPromptEncoder {
  /** With the chat template. */
  readonly tokenizer: QwenTokenizer;
  /** Loaded before it encodes. */
  readonly model: Qwen3;
  readonly #options: QwenPromptOptions;
  constructor(tokenizer: QwenTokenizer, model: Qwen3, options: QwenPromptOptions = {}) {
    this.tokenizer = tokenizer;
    this.model = model;
    this.#options = options;
  }

  /** Token ids of one prompt in its chat frame, unpadded. Throws TextTooLongError unless `truncate`. */
  tokens(prompt: string, { truncate = false }: { truncate?: boolean | undefined } = {}): Encoding {
    return this.tokenizer.encodePrompt(prompt, { maxLength: 512, ...this.#options, truncate });
  }

  /** One tensor [l, d] per prompt, f32, owned by the caller: l is its own number of tokens. */
  async encode(prompts: Prompts, options: EncodePromptOptions = {}): Promise<Tensor[]> {
    const encodings = promptList("QwenPromptEncoder", prompts).map((p) => this.tokens(p, options));
    const device = options.device ?? this.model.embed_tokens.weight.device;
    const lengths = encodings.map((e) => e.length);
    const ids = padded(encodings, this.tokenizer.padTokenId);
    using all = hold(await runBlocksAsync(device, this.model.run(device, ids, { lengths }), options));
    return scope(() => lengths.map((length, i) => all.value.narrow(0, i, 1).narrow(1, 0, length).squeeze(0).copy()));
  }
}

/** How prompts become T5's tokens. */
export interface T5PromptOptions {
  /** Most tokens; Infinity never cuts. Default 512 as FLUX.1 dev; schnell has 256. */
  readonly maxLength?: number;
  /** Pads fill up to here, or to the longest prompt. Default maxLength. ComfyUI: `{ maxLength: Infinity, padTo: 256 }`. */
  readonly padTo?: number;
}

/** FLUX.1: every row of the last hidden state; pads attend and are attended. */
export class T5PromptEncoder {
  /** T5's. */
  readonly tokenizer: Tokenizer;
  /** Loaded before it encodes. */
  readonly model: T5Encoder;
  readonly #maxLength: number;
  readonly #padTo: number;
  constructor(tokenizer: Tokenizer, model: T5Encoder, { maxLength = 512, padTo = maxLength }: T5PromptOptions = {}) {
    if (!Number.isSafeInteger(padTo) || padTo < 1)
      throw new ShapeError("T5PromptEncoder", `padTo is a whole number of tokens: got ${padTo}; give it when maxLength is Infinity`);
    this.tokenizer = tokenizer;
    this.model = model;
    this.#maxLength = maxLength;
    this.#padTo = padTo;
  }

  /** Token ids of one prompt, unpadded. Throws TextTooLongError unless `truncate`. */
  tokens(prompt: string, { truncate = false }: { truncate?: boolean | undefined } = {}): Encoding {
    return this.tokenizer.encode(prompt, { ...(this.#maxLength === Infinity ? {} : { maxLength: this.#maxLength }), truncate });
  }

  /** [b, l, d], f32, owned by the caller; l is `padTo`, or the longest prompt if that is more. */
  async encode(prompts: Prompts, options: EncodePromptOptions = {}): Promise<Tensor> {
    const encodings = promptList("T5PromptEncoder", prompts).map((p) => this.tokens(p, options));
    const device = options.device ?? this.model.shared.weight.device;
    const ids = padded(encodings, this.tokenizer.padTokenId, this.#padTo);
    return await runBlocksAsync(device, this.model.run(device, ids), options);
  }
}

/** FLUX.1: the pooled output. CLIP reads 77 tokens only, so longer prompts are cut unless `truncate` is false. */
export class ClipPromptEncoder {
  /** CLIP's. */
  readonly tokenizer: Tokenizer;
  /** Loaded before it encodes. */
  readonly model: ClipTextEncoder;
  constructor(tokenizer: Tokenizer, model: ClipTextEncoder) {
    this.tokenizer = tokenizer;
    this.model = model;
  }

  /** Token ids of one prompt, padded to all positions; `truncated` says how many were cut. */
  tokens(prompt: string, { truncate = true }: { truncate?: boolean | undefined } = {}): Encoding {
    return this.tokenizer.encode(prompt, { maxLength: this.model.config.positions, pad: true, truncate });
  }

  /** [b, d], f32, owned by the caller. */
  async encode(prompts: Prompts, options: EncodePromptOptions = {}): Promise<Tensor> {
    const ids = promptList("ClipPromptEncoder", prompts).map((p) => this.tokens(p, options).ids);
    const device = options.device ?? this.model.embeddings.token_embedding.weight.device;
    const { hidden, pooled } = await runBlocksAsync(device, this.model.run(device, ids), options);
    hidden.dispose();
    return pooled;
  }
}
