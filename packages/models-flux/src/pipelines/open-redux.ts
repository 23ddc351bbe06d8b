// FLUX.1 Redux from files: a repository in the layout of black-forest-labs/FLUX.1-Redux-dev (image_encoder/, image_embedder/,
// feature_extractor/), or the single files flux1-redux-dev.safetensors and ComfyUI's sigclip_vision_patch14_384.safetensors.
import { LazyModel, type OpenWeights, RequestError } from "@wick/diffusion";
import { checkSiglipProcessor, type SiglipConfig, siglipConfigFromJson, siglipNames, siglipSo400m } from "@wick/encoders";
import type { ModelFiles } from "@wick/hub";
import { openWeights, renameAll, streamSlice, translate, type WeightSource } from "@wick/tensor";
import { reduxConfigFromJson } from "../configs-json.ts";
import { flux1Redux, ReduxPrior } from "../redux.ts";
import { type FoundPart, findPart } from "./find-part.ts";
import type { OpenFluxOptions } from "./open-options.ts";
import { opening, type Reading } from "./reading.ts";

/**
 * Reads configs; the weights are opened when a request first has pictures. Throws RequestError naming what is not there, or when the tokens
 * are not as wide as the text of the transformer.
 */
export async function openRedux(options: OpenFluxOptions, textWidth: number, reading: Reading): Promise<LazyModel<ReduxPrior> | undefined> {
  const { redux: files, companions } = options;
  if (!files) return undefined;
  const places = [files, ...(companions ? [companions] : [])];
  const encoder = await needed(places, { folder: "image_encoder", single: "sig{clip,lip}*.safetensors" }, reading);
  const embedder = await needed(places, { folder: "image_embedder", single: "flux1-redux*.safetensors" }, reading);
  const model = new ReduxPrior({
    encoder: encoder.config ? siglipConfigFromJson(encoder.config) : siglipSo400m,
    embedder: embedder.config ? reduxConfigFromJson(embedder.config) : flux1Redux,
  });
  const { embedder: sizes, encoder: pictures } = model.config;
  if (sizes.textWidth !== textWidth)
    throw new RequestError("flux", `${files.name} makes tokens ${sizes.textWidth} wide, the transformer's text is ${textWidth} wide`);
  await checkProcessor(encoder.place, pictures, reading);
  const open: OpenWeights = async (signal, how) => {
    const source = async ({ place, weights }: FoundPart) => openWeights(await place.openAll(weights, opening(reading, signal, how)));
    const image_encoder = translate(await source(encoder), siglipNames);
    return joined({ image_encoder, image_embedder: await openedBeside(image_encoder, source(embedder)) });
  };
  return new LazyModel({ name: "redux", model, open, dtype: options.textEncoderDType, blocks: model.image_encoder.encoder.layers });
}

async function needed(places: readonly ModelFiles[], part: { folder: string; single: string }, reading: Reading): Promise<FoundPart> {
  const found = await findPart(places, part, reading);
  if (found) return found;
  const names = places.map((p) => p.name).join(" and ");
  throw new RequestError(
    "flux",
    `${names}: neither ${part.folder}/ nor ${part.single}; pass redux: a repository such as black-forest-labs/FLUX.1-Redux-dev`,
  );
}

async function checkProcessor(place: ModelFiles, encoder: SiglipConfig, reading: Reading): Promise<void> {
  const path = "feature_extractor/preprocessor_config.json";
  if (await place.has(path, reading)) checkSiglipProcessor(await place.readJson(path, reading), encoder);
}

/** The second of two sources; when it does not open, the first is closed. */
async function openedBeside(first: WeightSource, second: Promise<WeightSource>): Promise<WeightSource> {
  try {
    return await second;
  } catch (error) {
    await first.close();
    throw error;
  }
}

/** Several checkpoints as one, the names of each after its key. */
export function joined(parts: Readonly<Record<string, WeightSource>>): WeightSource {
  const sources = Object.entries(parts).map(([key, source]) => renameAll(source, (name) => `${key}.${name}`));
  const having = (name: string): WeightSource => sources.find((s) => s.entries.has(name)) ?? sources[0]!;
  return {
    entries: new Map(sources.flatMap((s) => [...s.entries])),
    metadata: new Map(),
    stream: (name, options) => having(name).stream(name, options),
    streamSlice: (name, begin, end, options) => streamSlice(having(name), name, begin, end, options),
    close: async () => {
      await Promise.all(sources.map((s) => s.close()));
    },
  };
}
