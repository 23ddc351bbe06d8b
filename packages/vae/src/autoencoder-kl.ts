// AutoencoderKL: images to latents and back; FLUX.1 and Z-Image share this network by config.
// After huggingface/diffusers src/diffusers/models/autoencoders/{autoencoder_kl,vae}.py and black-forest-labs/flux src/flux/modules/autoencoder.py.
// Fields are spelled as diffusers spells them. b batch, c channels, h w rows and columns.
import { type AttentionFunction, type BlockRun, Conv2d, fusedAttention, GroupNorm, Linear, Module, repeat, runBlocks } from "@wick/nn";
import { epilogue, hold, ShapeError, scope, type Tensor } from "@wick/tensor";
import { Autoencoder } from "./autoencoder.ts";
import type { RunOptions } from "./memory.ts";
import { releasing, type Stage, Staged, stageOf } from "./stages.ts";
import { diffusersTiles, runTiled } from "./tiling.ts";

/** Sizes of an AutoencoderKL, as in its config.json. */
export interface AutoencoderKlConfig {
  /** 3 for RGB. */
  readonly imageChannels: number;
  /** Of the latents. */
  readonly latentChannels: number;
  /** Channels per level, from the image inwards; each level but the last halves rows and columns. */
  readonly channels: readonly number[];
  /** Residual blocks per encoder level; the decoder has one more. */
  readonly blocksPerLevel: number;
  /** Of the group norms. */
  readonly groups: number;
  /** model latents = (z - shift) · scale */
  readonly scale: number;
  /** Taken from z before scaling. */
  readonly shift: number;
}

/** black-forest-labs/FLUX.1-dev vae/config.json; Z-Image ships the same network. */
export const flux1Autoencoder: AutoencoderKlConfig = {
  imageChannels: 3,
  latentChannels: 16,
  channels: [128, 256, 512, 512],
  blocksPerLevel: 2,
  groups: 32,
  scale: 0.3611,
  shift: 0.1159,
};

const normEps = 1e-6;
const siluAfter = epilogue((y) => y.silu());

/** Two convolutions with group norms beside a skip connection: x [b, c, h, w] → [b, out, h, w]. */
export class ResnetBlock extends Module {
  /** Before the first convolution. */
  readonly norm1: GroupNorm;
  /** To the block's channels. */
  readonly conv1: Conv2d;
  /** Before the second convolution. */
  readonly norm2: GroupNorm;
  /** Channels to channels. */
  readonly conv2: Conv2d;
  /** On the skip connection where channels change. */
  readonly conv_shortcut: Conv2d | undefined;
  constructor(inChannels: number, outChannels: number, groups: number) {
    super();
    this.norm1 = new GroupNorm(groups, inChannels, { eps: normEps });
    this.conv1 = new Conv2d(inChannels, outChannels, 3, { padding: 1 });
    this.norm2 = new GroupNorm(groups, outChannels, { eps: normEps });
    this.conv2 = new Conv2d(outChannels, outChannels, 3, { padding: 1 });
    this.conv_shortcut = inChannels === outChannels ? undefined : new Conv2d(inChannels, outChannels, 1);
  }
  /** x [b, in, h, w] → [b, out, h, w] */
  forward(x: Tensor): Tensor {
    const h = releasing(
      x,
      (y) => this.norm1.forward(y, siluAfter),
      (y) => this.conv1.forward(y),
      (y) => this.norm2.forward(y, siluAfter),
    );
    const shortcut = this.conv_shortcut ? this.conv_shortcut.forward(x) : x;
    return this.conv2.forward(
      h,
      epilogue((y, s) => y.add(s), shortcut),
    );
  }
}

/** Self-attention over all pixels with one head as wide as the channels. */
export class PixelAttention extends Module {
  /** Before the projections. */
  readonly group_norm: GroupNorm;
  /** Queries. */
  readonly to_q: Linear;
  /** Keys. */
  readonly to_k: Linear;
  /** Values. */
  readonly to_v: Linear;
  /** Before the skip connection is added. */
  readonly to_out: readonly [Linear];
  readonly #attention: AttentionFunction;
  constructor(channels: number, groups: number, attention: AttentionFunction = fusedAttention) {
    super();
    this.group_norm = new GroupNorm(groups, channels, { eps: normEps });
    this.to_q = new Linear(channels, channels);
    this.to_k = new Linear(channels, channels);
    this.to_v = new Linear(channels, channels);
    this.to_out = [new Linear(channels, channels)];
    this.#attention = attention;
  }
  /** x [b, c, h, w] → the same shape */
  forward(x: Tensor): Tensor {
    const [, , rows, columns] = x.dims(4);
    const tokens = this.group_norm.forward(x).rearrange("b c h w -> b (h w) c");
    const [q, k, v] = [this.to_q, this.to_k, this.to_v].map((p) => p.forward(tokens).unsqueeze(1)) as [Tensor, Tensor, Tensor];
    const out = this.to_out[0].forward(this.#attention(q, k, v).squeeze(1));
    return x.add(out.rearrange("b (h w) c -> b c h w", { h: rows, w: columns }).to(x.dtype));
  }
}

/** A residual block, attention over all pixels, a residual block. */
export class MidBlock extends Staged {
  /** Before and after attention. */
  readonly resnets: readonly [ResnetBlock, ResnetBlock];
  /** Between them. */
  readonly attentions: readonly [PixelAttention];
  constructor(channels: number, groups: number) {
    super();
    this.resnets = [new ResnetBlock(channels, channels, groups), new ResnetBlock(channels, channels, groups)];
    this.attentions = [new PixelAttention(channels, groups)];
  }
  /** x [b, c, h, w] → the same shape */
  get stages(): readonly Stage[] {
    return [this.resnets[0], this.attentions[0], this.resnets[1]].map(stageOf);
  }
}

/** Convolution with stride 2 after padding one zero row and column at the bottom and right (not symmetric). */
export class Downsample extends Module {
  /** With stride 2. */
  readonly conv: Conv2d;
  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { stride: 2 });
  }
  /** x [b, c, h, w] → [b, c, h/2, w/2] */
  forward(x: Tensor): Tensor {
    return releasing(
      x,
      (y) => y.pad([0, 1, 0, 1]),
      (y) => this.conv.forward(y),
    );
  }
}

/** Nearest neighbour to twice the size, then a convolution. */
export class Upsample extends Module {
  /** After enlarging. */
  readonly conv: Conv2d;
  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { padding: 1 });
  }
  /** x [b, c, h, w] → [b, c, 2h, 2w] */
  forward(x: Tensor): Tensor {
    return releasing(
      x,
      (y) => y.interpolate([2 * x.dim(2), 2 * x.dim(3)]),
      (y) => this.conv.forward(y),
    );
  }
}

/** Residual blocks, then half the size. */
export class DownBlock extends Staged {
  /** In the order they run. */
  readonly resnets: readonly ResnetBlock[];
  /** After them; absent in the last block. */
  readonly downsamplers: readonly [Downsample] | undefined;
  constructor(inChannels: number, outChannels: number, cfg: AutoencoderKlConfig, last: boolean) {
    super();
    this.resnets = repeat(cfg.blocksPerLevel, (i) => new ResnetBlock(i === 0 ? inChannels : outChannels, outChannels, cfg.groups));
    this.downsamplers = last ? undefined : [new Downsample(outChannels)];
  }
  /** x [b, in, h, w] → [b, out, h/2, w/2], or the same size in the last block */
  get stages(): readonly Stage[] {
    return [...this.resnets, ...(this.downsamplers ?? [])].map(stageOf);
  }
}

/** Residual blocks, then twice the size. */
export class UpBlock extends Staged {
  /** In the order they run. */
  readonly resnets: readonly ResnetBlock[];
  /** After them; absent in the last block. */
  readonly upsamplers: readonly [Upsample] | undefined;
  constructor(inChannels: number, outChannels: number, cfg: AutoencoderKlConfig, last: boolean) {
    super();
    this.resnets = repeat(cfg.blocksPerLevel + 1, (i) => new ResnetBlock(i === 0 ? inChannels : outChannels, outChannels, cfg.groups));
    this.upsamplers = last ? undefined : [new Upsample(outChannels)];
  }
  /** x [b, in, h, w] → [b, out, 2h, 2w], or the same size in the last block */
  get stages(): readonly Stage[] {
    return [...this.resnets, ...(this.upsamplers ?? [])].map(stageOf);
  }
}

/** An image in [-1, 1] to the mean and log-variance of its latents. */
export class Encoder extends Staged {
  /** From the image's channels. */
  readonly conv_in: Conv2d;
  /** From the image inwards. */
  readonly down_blocks: readonly DownBlock[];
  /** At the smallest size. */
  readonly mid_block: MidBlock;
  /** Before SiLU and the last convolution. */
  readonly conv_norm_out: GroupNorm;
  /** To mean and log-variance. */
  readonly conv_out: Conv2d;
  constructor(cfg: AutoencoderKlConfig) {
    super();
    const { channels } = cfg;
    const deepest = channels.at(-1)!;
    this.conv_in = new Conv2d(cfg.imageChannels, channels[0]!, 3, { padding: 1 });
    this.down_blocks = channels.map((c, i) => new DownBlock(channels[Math.max(0, i - 1)]!, c, cfg, i === channels.length - 1));
    this.mid_block = new MidBlock(deepest, cfg.groups);
    this.conv_norm_out = new GroupNorm(cfg.groups, deepest, { eps: normEps });
    this.conv_out = new Conv2d(deepest, 2 * cfg.latentChannels, 3, { padding: 1 });
  }
  /** image [b, 3, h, w] → mean and log-variance [b, 2 · latent, h/8, w/8] */
  get stages(): readonly Stage[] {
    const blocks = [...this.down_blocks, this.mid_block].flatMap((block) => block.stages);
    return [
      stageOf(this.conv_in),
      ...blocks,
      [this.conv_norm_out, (x) => this.conv_norm_out.forward(x, siluAfter)],
      stageOf(this.conv_out),
    ];
  }
}

/** Latents to an image in about [-1, 1]. */
export class Decoder extends Staged {
  /** From the latent channels. */
  readonly conv_in: Conv2d;
  /** At the smallest size. */
  readonly mid_block: MidBlock;
  /** From the latents outwards. */
  readonly up_blocks: readonly UpBlock[];
  /** Before SiLU and the last convolution. */
  readonly conv_norm_out: GroupNorm;
  /** To the image's channels. */
  readonly conv_out: Conv2d;
  constructor(cfg: AutoencoderKlConfig) {
    super();
    const inwards = cfg.channels.toReversed();
    const [deepest, outermost] = [inwards[0]!, inwards.at(-1)!];
    this.conv_in = new Conv2d(cfg.latentChannels, deepest, 3, { padding: 1 });
    this.mid_block = new MidBlock(deepest, cfg.groups);
    this.up_blocks = inwards.map((c, i) => new UpBlock(inwards[Math.max(0, i - 1)]!, c, cfg, i === inwards.length - 1));
    this.conv_norm_out = new GroupNorm(cfg.groups, outermost, { eps: normEps });
    this.conv_out = new Conv2d(outermost, cfg.imageChannels, 3, { padding: 1 });
  }
  /** z [b, latent, h, w] → image [b, 3, 8h, 8w] */
  get stages(): readonly Stage[] {
    const blocks = [this.mid_block, ...this.up_blocks].flatMap((block) => block.stages);
    return [
      stageOf(this.conv_in),
      ...blocks,
      [this.conv_norm_out, (x) => this.conv_norm_out.forward(x, siluAfter)],
      stageOf(this.conv_out),
    ];
  }
}

/** Mean and standard deviation of the latent distribution, each [b, latent, h, w]. */
export interface Moments {
  /** Of the latent distribution. */
  readonly mean: Tensor;
  /** Its standard deviation. */
  readonly std: Tensor;
}

/** An encoder's output [b, 2 · latent, h, w] → mean and std; log-variance is clamped to -30…20 as in diffusers. */
export function momentsOf(raw: Tensor): Moments {
  return scope(() => {
    const [mean, logvar] = raw.chunk(2, 1);
    return { mean: mean.copy(), std: logvar.clamp(-30, 20).mul(0.5).exp() };
  });
}

/** How an image is encoded. */
export interface EncodeOptions extends RunOptions {
  /** Standard normals [b, latent, h/8, w/8]: gives a sample of the distribution instead of its mean. */
  readonly noise?: Tensor | undefined;
}

/** The FLUX.1 and Z-Image autoencoder, by config. All methods take f32, f16 or bf16 and compute in that format (f32 sums). */
export class AutoencoderKl extends Autoencoder {
  /** Image to moments. */
  override readonly encoder: Encoder;
  /** Latents to image. */
  override readonly decoder: Decoder;
  readonly #cfg: AutoencoderKlConfig;
  constructor(cfg: AutoencoderKlConfig = flux1Autoencoder) {
    const { imageChannels, latentChannels, channels } = cfg;
    const factor = 2 ** (channels.length - 1);
    super({ imageChannels, latentChannels, factor, overlap: diffusersTiles.overlap, tiler: runTiled, twin: () => new AutoencoderKl(cfg) });
    this.encoder = new Encoder(cfg);
    this.decoder = new Decoder(cfg);
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): AutoencoderKlConfig {
    return this.#cfg;
  }

  /** z as the encoder gives it → model latents: (z - shift) · scale */
  scaleLatents(z: Tensor): Tensor {
    return scope(() => z.sub(this.#cfg.shift).mul(this.#cfg.scale));
  }
  /** Model latents → z as the decoder takes it. */
  unscaleLatents(latents: Tensor): Tensor {
    return scope(() => latents.div(this.#cfg.scale).add(this.#cfg.shift));
  }

  /** image [b, 3, h, w] in -1…1, h and w multiples of `factor` → mean and std of z, unscaled. */
  moments(image: Tensor, options?: RunOptions): Moments {
    return runBlocks(this.runMoments(image, options));
  }
  /** image [b, 3, h, w] in -1…1, h and w multiples of `factor` → model latents [b, latent, h/8, w/8]: the mean, or a sample. */
  encode(image: Tensor, options?: EncodeOptions): Tensor {
    return runBlocks(this.runEncode(image, options));
  }
  /** model latents [b, latent, h, w] → image [b, 3, 8h, 8w], about -1…1 */
  decode(latents: Tensor, options?: RunOptions): Tensor {
    return runBlocks(this.runDecode(latents, options));
  }

  /** `moments` that pauses before each block; see runBlocksAsync. */
  *runMoments(image: Tensor, options: RunOptions = {}): BlockRun<Moments> {
    using raw = hold(yield* this.runHalf("encode", image, options));
    return momentsOf(raw.value);
  }
  /** `encode` that pauses before each block; see runBlocksAsync. */
  *runEncode(image: Tensor, { noise, ...options }: EncodeOptions = {}): BlockRun<Tensor> {
    const wanted = [image.dim(0), this.#cfg.latentChannels, ...this.checkImage(image)];
    if (noise && `${noise.shape}` !== `${wanted}`) throw new ShapeError("encode", `noise is [${wanted.join(", ")}]: ${noise}`);
    using moments = hold(yield* this.runMoments(image, options));
    const { mean, std } = moments.value;
    return scope(() => this.scaleLatents(noise ? mean.add(std.mul(noise)) : mean));
  }
  /** `decode` that pauses before each block; see runBlocksAsync. */
  runDecode(latents: Tensor, options: RunOptions = {}): BlockRun<Tensor> {
    return this.runHalf("decode", latents, options);
  }

  protected override decoderInput(latents: Tensor): Tensor {
    return this.unscaleLatents(latents);
  }
}
