// Narrow weights and large activations, as functions of a device: the CPU and GPU tests share them.
// Scaling what is added to the residual stream by S (a power of two) and epsilon by S² leaves every norm's output as it was, so the
// results must not move, however large the activations become. An f16 activation anywhere would turn into infinity instead.
import { capture, load, type Module, pathMatcher } from "@wick/nn";
import { type Device, type DType, hold, renameAll, type Tensor, type WeightSource } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { type ModuleGolden, rowsOfInput } from "@wick/testing/module-golden";
import { Qwen3, qwen3ConfigFromJson, T5Encoder, t5ConfigFromJson } from "../src/index.ts";
import { openGolden } from "./parity-cases.ts";

/** What was measured. */
export interface LargeActivations {
  /** Relative L2 between the results with and without the scale, both with the narrow weights. */
  readonly moved: number;
  /** Relative L2 to the golden, whose weights are f32. */
  readonly error: number;
  /** Cosine similarity to the golden. */
  readonly cosine: number;
  /** Largest value of the residual stream and of the feed-forward's inner width, with the scale. */
  readonly peakResidual: number;
  readonly peakInner: number;
}

/** Beyond f16, whose largest value is 65504. */
const scale = 2 ** 16;

/** `source` (f32) with tensors multiplied by what `factor` says for their names. */
function scaled(source: WeightSource, factor: (name: string) => number): WeightSource {
  return {
    entries: source.entries,
    metadata: source.metadata,
    async *stream(name, options) {
      for await (const piece of source.stream(name, options)) {
        const values = new Float32Array(Uint8Array.from(piece).buffer);
        yield new Uint8Array(values.map((v) => v * factor(name)).buffer);
      }
    },
    close: () => source.close(),
  };
}

async function values(tensor: Tensor): Promise<Float32Array> {
  using owned = hold(tensor);
  return (await owned.value.toArray()) as Float32Array;
}

const largest = (all: readonly Float32Array[]): number => all.reduce((most, v) => v.reduce((m, x) => Math.max(m, Math.abs(x)), most), 0);

function cosine(a: Float32Array, b: Float32Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

interface Subject<M extends Module> {
  readonly golden: ModuleGolden;
  /** The golden's result to compare with. */
  readonly end: string;
  readonly weights: WeightSource;
  readonly build: (epsFactor: number) => M;
  readonly forward: (model: M) => Tensor;
  readonly factor: (name: string) => number;
  /** Globs of the residual stream and of the feed-forward's inner activations. */
  readonly residual: string;
  readonly inner: string;
}

async function measure<M extends Module>(device: Device, dtype: DType, subject: Subject<M>): Promise<LargeActivations> {
  const { golden, end, weights, build, forward, residual, inner } = subject;
  using plain = build(1);
  await load(plain, weights, device, { dtype });
  const base = await values(forward(plain));
  using large = build(scale ** 2);
  await load(large, scaled(weights, subject.factor), device, { dtype });
  using seen = capture(large, [residual, inner], () => forward(large));
  const result = await values(seen.result);
  const peak = async (glob: string) => {
    const tensors = [...seen.calls].filter(([path]) => pathMatcher(glob)(path)).flatMap(([, calls]) => calls as Tensor[]);
    return largest(await Promise.all(tensors.map(async (t) => (await t.toArray()) as Float32Array)));
  };
  const expected = golden.outputs.get(end)!.values as Float32Array;
  return {
    moved: relativeL2(result, base),
    error: relativeL2(base, expected),
    cosine: cosine(base, expected),
    peakResidual: await peak(residual),
    peakInner: await peak(inner),
  };
}

/** T5 with weights in `dtype`: the residual stream and the input of `wo` beyond f16's range. */
export async function t5LargeActivations(device: Device, dtype: DType): Promise<LargeActivations> {
  const golden = await openGolden("t5");
  const config = t5ConfigFromJson(golden.config);
  const ids = rowsOfInput(golden, "input_ids");
  return await measure<T5Encoder>(device, dtype, {
    golden,
    end: "last_hidden_state",
    weights: golden.weights,
    build: (factor) => new T5Encoder({ ...config, eps: config.eps * factor }),
    forward: (model) => model.forward(device, ids),
    // The scale of the feed-forward lies in wi_1, so that its inner activations are large too.
    factor: (name) => (/shared|\.o\.|wi_1/.test(name) ? scale : 1),
    residual: "encoder.block.*.layer.*",
    inner: "**.wi_0",
  });
}

/** Qwen3 with weights in `dtype`; its q and k norms see scaled inputs too, because they share epsilon. */
export async function qwen3LargeActivations(device: Device, dtype: DType): Promise<LargeActivations> {
  const golden = await openGolden("qwen3");
  const config = qwen3ConfigFromJson(golden.config);
  const ids = rowsOfInput(golden, "input_ids");
  return await measure<Qwen3>(device, dtype, {
    golden,
    end: "hidden_states.4",
    weights: renameAll(golden.weights, (name) => name.replace(/^model\./, "")),
    build: (factor) => new Qwen3({ ...config, eps: config.eps * factor }),
    forward: (model) => model.forward(device, ids, { lengths: [23, 14] }),
    factor: (name) => (/embed_tokens|o_proj|up_proj|[qk]_proj/.test(name) ? scale : 1),
    residual: "layers.*",
    inner: "**.gate_proj",
  });
}
