// "Scaled fp8" checkpoints: f8 weights with a scale each, in ComfyUI's older and newer spelling. They open as plain weights:
// value = f8 * scale, rounded once to the dtype asked for. ComfyUI: comfy/ops.py, comfy/quant_ops.py, comfy/utils.py.
import { bytesOf, dtypeInfo } from "../dtype.ts";
import { decodeFloats, encodeFloats } from "../dtype-convert.ts";
import { FormatError, UnsupportedError } from "../errors.ts";
import { sizeOf } from "../shape.ts";
import { entryOf, readTensorBytes, type StreamOptions, type WeightEntry, type WeightSource } from "./weight-source.ts";

const OP = "openWeights";
type F8 = "f8e4m3" | "f8e5m2";
type Target = "bf16" | "f16" | "f32";

/** What to make of f8 weights that come with scales. */
export interface ScaledF8Options {
  /** What scaled f8 weights become; "raw" leaves the file as it is, scales and all. Default "bf16". */
  readonly scaledF8?: Target | "raw";
}

/** Names beside a weight that describe its scaling, by their ending. */
const SCALE_ENDINGS = [".scale_weight", ".weight_scale"];
const HIDDEN_ENDINGS = [".scale_weight", ".scale_input", ".weight_scale", ".input_scale", ".comfy_quant"];
const SUPPORTED_FORMATS = ["float8_e4m3fn", "float8_e5m2"];

/** Wraps a checkpoint whose f8 weights carry scales; any other checkpoint is returned as it is. Throws UnsupportedError on other formats. */
export async function withScaledF8(source: WeightSource, options: ScaledF8Options = {}): Promise<WeightSource> {
  const target = options.scaledF8 ?? "bf16";
  if (target === "raw" || !isScaled(source)) return source;
  try {
    await checkFormats(source);
    return unscaled(source, target);
  } catch (error) {
    await source.close();
    throw error;
  }
}

function isScaled(source: WeightSource): boolean {
  if (source.entries.has("scaled_fp8") || source.metadata.has("_quantization_metadata")) return true;
  for (const name of source.entries.keys()) if (name.endsWith(".scale_weight") || name.endsWith(".comfy_quant")) return true;
  return false;
}

/** The newer spelling names a format per layer, in a tensor of JSON or in the file's notes. */
async function checkFormats(source: WeightSource): Promise<void> {
  const notes = source.metadata.get("_quantization_metadata");
  if (typeof notes === "string") {
    const { layers = {} } = parseJson<{ layers?: Record<string, unknown> }>(notes, "_quantization_metadata");
    for (const [layer, info] of Object.entries(layers)) checkFormat(layer, info);
  }
  for (const entry of source.entries.values()) {
    if (!entry.name.endsWith(".comfy_quant")) continue;
    if (entry.byteLength > 65_536) throw new FormatError(OP, `a description of ${entry.byteLength} bytes: ${entry.name}`);
    const text = new TextDecoder().decode(await readTensorBytes(source, entry.name));
    checkFormat(entry.name.slice(0, -".comfy_quant".length), parseJson(text, entry.name));
  }
}

function parseJson<T>(text: string, where: string): T {
  try {
    const value = JSON.parse(text) as T | null;
    if (typeof value === "object" && value !== null) return value;
  } catch (cause) {
    throw new FormatError(OP, `the description of a quantization is not JSON: ${where}`, { cause });
  }
  throw new FormatError(OP, `the description of a quantization is not a JSON object: ${where}`);
}

function checkFormat(layer: string, info: unknown): void {
  const format = (info as { format?: unknown } | null)?.format;
  if (typeof format === "string" && SUPPORTED_FORMATS.includes(format)) return;
  throw new UnsupportedError(OP, `quantization "${String(format)}": ${layer}; use a bf16, f8 or GGUF version of this checkpoint`);
}

function scaleOf(source: WeightSource, weight: WeightEntry): WeightEntry | undefined {
  const layer = weight.name.replace(/\.weight$/, "");
  for (const ending of SCALE_ENDINGS) {
    const scale = source.entries.get(layer + ending);
    if (!scale) continue;
    if (scale.dtype === "f32" && sizeOf(scale.shape) === 1) return scale;
    throw new UnsupportedError(
      OP,
      `only one f32 scale per weight is supported: ${scale.name} is ${scale.dtype} [${scale.shape.join(", ")}]`,
    );
  }
  return undefined;
}

function unscaled(source: WeightSource, target: Target): WeightSource {
  const entries = new Map<string, WeightEntry>();
  for (const entry of source.entries.values()) {
    if (entry.name === "scaled_fp8" || HIDDEN_ENDINGS.some((ending) => entry.name.endsWith(ending))) continue;
    entries.set(
      entry.name,
      isScaledWeight(source, entry) ? { ...entry, dtype: target, byteLength: bytesOf(target, sizeOf(entry.shape)) } : entry,
    );
  }
  return {
    entries,
    metadata: source.metadata,
    stream(name, options) {
      const entry = entryOf(entries, name, "this checkpoint");
      const stored = source.entries.get(name)!;
      return entry.dtype === stored.dtype ? source.stream(name, options) : scaledPieces(source, stored, target, options);
    },
    close: () => source.close(),
  };
}

const isScaledWeight = (source: WeightSource, entry: WeightEntry): boolean =>
  (entry.dtype === "f8e4m3" || entry.dtype === "f8e5m2") && scaleOf(source, entry) !== undefined;

async function* scaledPieces(source: WeightSource, stored: WeightEntry, target: Target, options: StreamOptions = {}) {
  const scaleBytes = await readTensorBytes(source, scaleOf(source, stored)!.name, options.signal ? { signal: options.signal } : {});
  const scale = new Float32Array(scaleBytes.buffer)[0]!;
  if (!Number.isFinite(scale)) throw new FormatError(OP, `the scale of ${stored.name} is ${scale}: ${stored.file}`);
  const chunkBytes = Math.max(1, Math.floor((options.chunkBytes ?? 16 * 2 ** 20) / dtypeInfo[target].blockBytes));
  for await (const piece of source.stream(stored.name, { ...options, chunkBytes }))
    yield scalePiece(piece, stored.dtype as F8, scale, target);
}

function scalePiece(piece: Uint8Array, from: F8, scale: number, to: Target): Uint8Array {
  const values = new Float32Array(piece.length);
  decodeFloats(from, piece, 0, values, 0, piece.length);
  for (let i = 0; i < values.length; i++) values[i]! *= scale;
  if (to === "f32") return new Uint8Array(values.buffer);
  const bits = new Uint16Array(values.length);
  encodeFloats(to, values, 0, bits, 0, values.length);
  return new Uint8Array(bits.buffer);
}
