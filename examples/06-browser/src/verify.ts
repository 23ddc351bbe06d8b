// The check behind the Verify button: this browser's numbers against values PyTorch computed, step by step.
import type { ZImagePipeline } from "@wick/models-zimage";
import { type ByteSource, openSafetensors, readTensorBytes, torchCpu } from "@wick/tensor";
import type { Check } from "./messages.ts";

/** What the reference file was made with. */
const reference = { prompt: "fox", seed: 1, guidance: 0 };

type Values = Float32Array<ArrayBuffer>;

/** Yields one check after the other; `bytes` is a reference file of the tiny model (its names are in that package's README). */
export async function* verify(pipe: ZImagePipeline, bytes: ByteSource, signal: AbortSignal): AsyncGenerator<Check, void, void> {
  const file = await openSafetensors(bytes);
  const raw = async (name: string) => (await readTensorBytes(file, name)).slice();
  const values = async (name: string): Promise<Values> => new Float32Array((await raw(name)).buffer);
  // f32 sums in another order than PyTorch's: the tolerances of the test suite.
  const allowed = pipe.device.kind === "cpu" ? 1e-5 : 1e-4;

  const noise = await values("noise");
  const drawn = torchCpu(reference.seed).randn(noise.length) as Values;
  yield same(`Random numbers: ${noise.length} normals of torch.manual_seed(${reference.seed})`, drawn, noise);

  const ids = new BigInt64Array((await raw("token_ids")).buffer);
  const tokens = pipe.parts.text!.tokenizer.encodePrompt(reference.prompt).ids;
  yield same("Token ids of the prompt", Float32Array.from(tokens), Float32Array.from(ids, Number));

  using hidden = await pipe.encode(reference.prompt, { signal });
  yield close("Text encoder: hidden states", (await hidden.toArray()) as Values, await values("text_hidden"), allowed);

  using start = pipe.device.tensor(noise, [1, 16, 8, 8]);
  const expected = await values("latents_steps");
  const run = pipe.steps({ prompt: reference.prompt, guidance: reference.guidance, latents: start, signal });
  for (;;) {
    const step = await run.next();
    if (step.done) {
      using latents = step.value;
      const vae = await pipe.parts.vae.ensure(pipe.device);
      using picture = vae.decode(latents);
      yield close("Decoded picture", (await picture.toArray()) as Values, await values("decoded"), 1e-4);
      return;
    }
    const { index, count, latents } = step.value;
    const wanted = expected.subarray(index * noise.length, (index + 1) * noise.length);
    if (index === 0 || index === count - 1) {
      const name = index === 0 ? "Transformer: latents after one forward pass" : `Latents after all ${count} steps`;
      yield close(name, (await latents.toArray()) as Values, wanted, allowed);
    }
  }
}

function same(name: string, got: Float32Array, want: Float32Array): Check {
  const differing = got.length === want.length ? got.filter((value, i) => value !== want[i]).length : want.length;
  return { name, measured: differing, allowed: 0, unit: "values differ", isPassed: differing === 0 };
}

function close(name: string, got: Float32Array, want: Float32Array, allowed: number): Check {
  let [error, size] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    error += (got[i]! - want[i]!) ** 2;
    size += want[i]! ** 2;
  }
  const measured = got.length === want.length ? Math.sqrt(error / size) : Number.NaN;
  return { name, measured, allowed, unit: "relative L2", isPassed: measured <= allowed };
}
