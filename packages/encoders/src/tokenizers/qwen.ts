// The tokenizer of Qwen2 and Qwen3 (Z-Image and FLUX.2 klein `tokenizer/`): byte-level BPE and the chat template.
// Rules of a repository without tokenizer.json: transformers src/transformers/models/qwen2/tokenization_qwen2.py.

import { Template } from "@huggingface/jinja";
import { TokenizerError } from "./errors.ts";
import { jsonFile, parseMergesText, presentFiles, type TokenizerFiles, textFile } from "./files.ts";
import { asArray, asObject, asString, type JsonObject } from "./json-fields.ts";
import { type EncodeOptions, type Encoding, Tokenizer } from "./tokenizer.ts";

const padToken = "<|endoftext|>";
const words =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** One turn of a conversation. */
export interface ChatMessage {
  /** "system", "user" or "assistant". */
  readonly role: string;
  /** The text. */
  readonly content: string;
}

/** How to render a conversation. */
export interface ChatOptions {
  /** Open the assistant's turn at the end. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** What the template sees as `enable_thinking`; false makes Qwen3's write an empty think block. Default true. */
  readonly enableThinking?: boolean;
}

function qwenJson(vocabulary: JsonObject, merges: string): JsonObject {
  return {
    normalizer: { type: "NFC" },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: words }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, use_regex: false },
      ],
    },
    post_processor: { type: "ByteLevel" },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: vocabulary, merges: parseMergesText(merges) },
  };
}

function jsonOf(files: TokenizerFiles): JsonObject {
  const json = jsonFile(files, "tokenizer.json");
  if (json) return json;
  const vocabulary = jsonFile(files, "vocab.json");
  const merges = textFile(files, "merges.txt");
  if (!vocabulary || merges === undefined) {
    throw new TokenizerError("qwenTokenizer", `needs tokenizer.json, or vocab.json and merges.txt: got ${presentFiles(files)}`);
  }
  if (!jsonFile(files, "tokenizer_config.json")?.["added_tokens_decoder"]) {
    throw new TokenizerError("qwenTokenizer", "vocab.json and merges.txt hold no special tokens: pass tokenizer_config.json with them");
  }
  return qwenJson(vocabulary, merges);
}

/** Finds the template text: chat_template.jinja, or `chat_template` of tokenizer_config.json (a text or a named list). */
function templateText(files: TokenizerFiles, config: JsonObject): string | undefined {
  const path = "tokenizer_config.json: chat_template";
  const own = textFile(files, "chat_template.jinja") ?? config["chat_template"];
  if (own === undefined || own === null || typeof own === "string") return own ?? undefined;
  const named = asArray(own, path).map((entry, i) => asObject(entry, `${path}[${i}]`));
  const chosen = named.find((entry) => entry["name"] === "default");
  return chosen && asString(chosen["template"], `${path}.template`);
}

/** Qwen's tokenizer with its chat template. Make one with `qwenTokenizer`. */
export class QwenTokenizer extends Tokenizer {
  readonly #templateText: string | undefined;
  #template: Template | undefined;

  /** Takes the contents of tokenizer.json and tokenizer_config.json and the chat template, if there is one. */
  constructor(json: JsonObject, config: JsonObject, template: string | undefined) {
    super(json, config, { kind: "qwenTokenizer", modelType: "BPE", padToken });
    this.#templateText = template;
  }

  /** Renders a conversation to text with the repository's chat template; throws TokenizerError when there is none or it fails. */
  renderChat(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    const { addGenerationPrompt = true, enableThinking = true } = options;
    const op = "qwenTokenizer.renderChat";
    if (this.#templateText === undefined) {
      throw new TokenizerError(op, "there is no chat template; pass tokenizer_config.json or chat_template.jinja");
    }
    try {
      this.#template ??= new Template(this.#templateText);
      return this.#template.render({ messages, add_generation_prompt: addGenerationPrompt, enable_thinking: enableThinking });
    } catch (cause) {
      throw new TokenizerError(op, `the chat template fails: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
  }

  /**
   * Encodes a prompt as the user's turn with the assistant's turn opened: what Z-Image (`{ maxLength: 512 }`) and FLUX.2
   * klein (`{ maxLength: 512, pad: true, enableThinking: false }`) feed their text encoder. Returns ids and mask [l].
   */
  encodePrompt(prompt: string, options: EncodeOptions & ChatOptions = {}): Encoding {
    return this.encode(this.renderChat([{ role: "user", content: prompt }], options), options);
  }
}

/**
 * Loads Qwen's tokenizer from tokenizer.json or from vocab.json, merges.txt and tokenizer_config.json; the chat template
 * comes from tokenizer_config.json or chat_template.jinja. Throws TokenizerError when a file is missing or malformed.
 */
export function qwenTokenizer(files: TokenizerFiles): QwenTokenizer {
  const config = jsonFile(files, "tokenizer_config.json") ?? {};
  return new QwenTokenizer(jsonOf(files), config, templateText(files, config));
}
