// The tokenizer files of two released repositories, by their paths there; kept as goldens of packages/encoders.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

/** Contents by path. */
export type TokenizerRepositoryFiles = Record<string, Uint8Array | string>;

const golden = (name: string): Uint8Array => {
  const bytes = readFileSync(new URL(`../../encoders/test/goldens/tokenizers/${name}`, import.meta.url));
  return new Uint8Array(name.endsWith(".gz") ? gunzipSync(bytes) : bytes);
};
const goldenText = (name: string): string => new TextDecoder().decode(golden(name));

/** Qwen3's, as Tongyi-MAI/Z-Image-Turbo has them. */
export const zImageTokenizerFiles = (): TokenizerRepositoryFiles => ({
  "tokenizer/tokenizer.json": goldenText("qwen/tokenizer.json.gz"),
  "tokenizer/tokenizer_config.json": goldenText("qwen/tokenizer_config.json"),
});

/** CLIP's and T5's, as black-forest-labs/FLUX.1-schnell has them, but for tokenizer_2/tokenizer.json: the reader takes spiece.model instead. */
export function fluxTokenizerFiles(): TokenizerRepositoryFiles {
  const merges = goldenText("clip/merges.txt.gz");
  return {
    "tokenizer/merges.txt": merges,
    "tokenizer/vocab.json": clipVocabulary(merges),
    "tokenizer/tokenizer_config.json": goldenText("clip/tokenizer_config.json"),
    "tokenizer/special_tokens_map.json": "{}",
    "tokenizer_2/spiece.model": golden("t5/spiece.model.gz"),
    "tokenizer_2/special_tokens_map.json": "{}",
    "tokenizer_2/tokenizer_config.json": "{}",
  };
}

/** CLIP's vocabulary follows from its merges: bytes, bytes that end a word, merged pairs, the two special tokens. */
function clipVocabulary(merges: string): string {
  const printable = [...Array(256).keys()].filter((b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
  const others = [...Array(256).keys()].filter((b) => !printable.includes(b));
  const bytes = [...printable.map((b) => String.fromCharCode(b)), ...others.map((_, i) => String.fromCharCode(256 + i))];
  const pairs = merges
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#version"))
    .map((line) => line.replace(" ", ""));
  const tokens = [...bytes, ...bytes.map((b) => `${b}</w>`), ...pairs, "<|startoftext|>", "<|endoftext|>"];
  return JSON.stringify(Object.fromEntries(tokens.map((token, id) => [token, id])));
}
