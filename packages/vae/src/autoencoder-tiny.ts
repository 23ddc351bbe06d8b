// AutoencoderTiny (TAESD, TAEF1): a small autoencoder trained to imitate a large one; for previews, or where memory is short.
// After huggingface/diffusers src/diffusers/models/autoencoders/{autoencoder_tiny,vae}.py and madebyollin/taesd taesd.py.
// It works on model latents as they are (no scale, no shift). Fields are spelled as diffusers spells them.
import { type BlockRun, Conv2d, Module, repeat, runBlocks } from "@wick/nn";
import { epilogue, type Tensor } from "@wick/tensor";
import { Autoencoder } from "./autoencoder.ts";
import type { RunOptions } from "./memory.ts";
import { releasing, type Stage, Staged, stageOf } from "./stages.ts";
import { runFeathered } from "./tiling.ts";

/** Sizes of an AutoencoderTiny, as in its config.json. */
export interface AutoencoderTinyConfig {
  /** 3 for RGB. */
  readonly imageChannels: number;
  /** Of the latents. */
  readonly latentChannels: number;
  /** Channels of all hidden layers. */
  readonly width: number;
  /** Blocks per level, in order of execution; levels are a factor of 2 apart. */
  readonly encoderBlocks: readonly number[];
  /** As encoderBlocks, from the latents outwards. */
  readonly decoderBlocks: readonly number[];
}

/** madebyollin/taef1: for FLUX.1 and Z-Image, which share their latents. */
export const taef1: AutoencoderTinyConfig = {
  imageChannels: 3,
  latentChannels: 16,
  width: 64,
  encoderBlocks: [1, 3, 3, 3],
  decoderBlocks: [3, 3, 3, 1],
};

const reluAfter = epilogue((y) => y.relu());

/** Three convolutions with a residual connection. */
export class TinyBlock extends Module {
  /** Numbered as in a sequence whose odd entries are activations. */
  readonly conv: {
    /** First convolution. */
    readonly 0: Conv2d;
    /** Second convolution. */
    readonly 2: Conv2d;
    /** Third convolution. */
    readonly 4: Conv2d;
  };
  constructor(width: number) {
    super();
    const conv = () => new Conv2d(width, width, 3, { padding: 1 });
    this.conv = { 0: conv(), 2: conv(), 4: conv() };
  }
  /** x [b, c, h, w] → the same shape */
  forward(x: Tensor): Tensor {
    const addInput = epilogue((y, input) => y.add(input).relu(), x);
    return releasing(
      x,
      (y) => this.conv[0].forward(y, reluAfter),
      (y) => this.conv[2].forward(y, reluAfter),
      (y) => this.conv[4].forward(y, addInput),
    );
  }
}

/** Nearest neighbour to twice the size. */
export class TinyUpsample extends Module {
  /** x [b, c, h, w] → [b, c, 2h, 2w] */
  forward(x: Tensor): Tensor {
    return x.interpolate([2 * x.dim(2), 2 * x.dim(3)]);
  }
}

type TinyLayer = Conv2d | TinyBlock | TinyUpsample;

/** An image to the model's latents, without a distribution. */
export class TinyEncoder extends Staged {
  /** Numbered as in the checkpoint. */
  readonly layers: readonly TinyLayer[];
  constructor({ imageChannels, latentChannels, width, encoderBlocks }: AutoencoderTinyConfig) {
    super();
    const level = (blocks: number, i: number): TinyLayer[] => [
      i === 0 ? new Conv2d(imageChannels, width, 3, { padding: 1 }) : new Conv2d(width, width, 3, { padding: 1, stride: 2, bias: false }),
      ...repeat(blocks, () => new TinyBlock(width)),
    ];
    this.layers = [...encoderBlocks.flatMap(level), new Conv2d(width, latentChannels, 3, { padding: 1 })];
  }
  /** image [b, 3, h, w] in -1…1 → model latents [b, latent, h/8, w/8] */
  get stages(): readonly Stage[] {
    const [first, ...rest] = this.layers;
    return [[first!, (x) => first!.forward(x.add(1).div(2))], ...rest.map(stageOf)];
  }
}

/** The model's latents to an image, quickly and roughly. */
export class TinyDecoder extends Staged {
  /** Layer 1 is an activation. */
  readonly layers: readonly (TinyLayer | undefined)[];
  constructor({ imageChannels, latentChannels, width, decoderBlocks }: AutoencoderTinyConfig) {
    super();
    const last = decoderBlocks.length - 1;
    const level = (blocks: number, i: number): TinyLayer[] => [
      ...repeat(blocks, () => new TinyBlock(width)),
      ...(i === last
        ? [new Conv2d(width, imageChannels, 3, { padding: 1 })]
        : [new TinyUpsample(), new Conv2d(width, width, 3, { padding: 1, bias: false })]),
    ];
    this.layers = [new Conv2d(latentChannels, width, 3, { padding: 1 }), undefined, ...decoderBlocks.flatMap(level)];
  }
  /** model latents [b, latent, h, w] → image [b, 3, 8h, 8w] in about -1…1 */
  get stages(): readonly Stage[] {
    const [first, , ...rest] = this.layers as readonly [Conv2d, undefined, ...TinyLayer[]];
    const last = rest.pop()!;
    const clamped = (z: Tensor): Tensor => z.div(3).tanh().mul(3);
    return [
      [first, (z) => first.forward(clamped(z), reluAfter)],
      ...rest.map(stageOf),
      // The network gives 0…1.
      [last, (x) => last.forward(x).mul(2).sub(1)],
    ];
  }
}

/** What diffusers' tiling of AutoencoderTiny shares between tiles of 512 pixels. */
const autoOverlap = 0.125;

/** TAESD: a small, lossy autoencoder for previews and little memory. */
export class AutoencoderTiny extends Autoencoder {
  /** Image to latents. */
  override readonly encoder: TinyEncoder;
  /** Latents to image. */
  override readonly decoder: TinyDecoder;
  readonly #cfg: AutoencoderTinyConfig;
  constructor(cfg: AutoencoderTinyConfig = taef1) {
    const { imageChannels, latentChannels, decoderBlocks } = cfg;
    const factor = 2 ** (decoderBlocks.length - 1);
    super({ imageChannels, latentChannels, factor, overlap: autoOverlap, tiler: runFeathered, twin: () => new AutoencoderTiny(cfg) });
    this.encoder = new TinyEncoder(cfg);
    this.decoder = new TinyDecoder(cfg);
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): AutoencoderTinyConfig {
    return this.#cfg;
  }

  /** image [b, 3, h, w] in -1…1, h and w multiples of `factor` → model latents [b, latent, h/8, w/8] */
  encode(image: Tensor, options?: RunOptions): Tensor {
    return runBlocks(this.runEncode(image, options));
  }
  /** model latents [b, latent, h, w] → image [b, 3, 8h, 8w], about -1…1 */
  decode(latents: Tensor, options?: RunOptions): Tensor {
    return runBlocks(this.runDecode(latents, options));
  }
  /** `encode` that pauses before each block; see runBlocksAsync. */
  runEncode(image: Tensor, options: RunOptions = {}): BlockRun<Tensor> {
    return this.runHalf("encode", image, options);
  }
  /** `decode` that pauses before each block; see runBlocksAsync. */
  runDecode(latents: Tensor, options: RunOptions = {}): BlockRun<Tensor> {
    return this.runHalf("decode", latents, options);
  }
}
