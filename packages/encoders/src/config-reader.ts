// Reads a transformers config.json key by key: what is missing, of another type, unsupported or unknown is an error that names the key.
import { FormatError, UnsupportedError } from "@wick/tensor";

/** A parsed config.json. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** Keys that transformers writes for every model and that change nothing in an encoder's forward pass at inference. */
const bookkeeping = [
  "_name_or_path",
  "architectures",
  "attention_dropout",
  "bos_token_id",
  "dtype",
  "eos_token_id",
  "initializer_factor",
  "initializer_range",
  "pad_token_id",
  "tie_word_embeddings",
  "torch_dtype",
  "transformers_version",
  "use_cache",
] as const;

export class ConfigReader {
  readonly #op: string;
  readonly #json: ConfigJson;
  readonly #left: Set<string>;

  /** `op` opens the messages; `ignored` are keys of this model that do not matter here. */
  constructor(op: string, json: ConfigJson, ignored: readonly string[]) {
    if (typeof json !== "object" || json === null || Array.isArray(json)) throw new FormatError(op, "config.json is not an object");
    this.#op = op;
    this.#json = json;
    this.#left = new Set(Object.keys(json));
    for (const key of [...bookkeeping, ...ignored]) this.#left.delete(key);
  }

  /** The value of a key, which counts as read; undefined when absent. */
  take(key: string): unknown {
    this.#left.delete(key);
    return Object.hasOwn(this.#json, key) ? this.#json[key] : undefined;
  }

  /** A positive number; `otherwise` when the key is absent, FormatError when there is no default. */
  number(key: string, otherwise?: number): number {
    const value = this.take(key) ?? otherwise;
    if (value === undefined) throw new FormatError(this.#op, `config.json lacks "${key}"`);
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) this.refuse(key, "a positive number", value);
    return value as number;
  }

  /** A positive whole number. */
  count(key: string, otherwise?: number): number {
    const value = this.number(key, otherwise);
    if (!Number.isSafeInteger(value)) this.refuse(key, "a whole number", value);
    return value;
  }

  /** Refuses every value but these; absent is allowed. */
  only(key: string, ...allowed: readonly (string | number | boolean | null)[]): void {
    const value = this.take(key);
    if (value === undefined || allowed.some((a) => a === value)) return;
    const known = allowed.map((a) => JSON.stringify(a)).join(" or ");
    throw new UnsupportedError(this.#op, `"${key}" is ${JSON.stringify(value)}, this network has ${known}`);
  }

  /** Throws FormatError: the value of `key` is not what was wanted. */
  refuse(key: string, wanted: string, value: unknown): never {
    throw new FormatError(this.#op, `"${key}" must be ${wanted}: got ${JSON.stringify(value)}`);
  }

  /** Throws UnsupportedError when there are keys that nobody read. */
  finish(): void {
    const [key] = this.#left;
    if (key === undefined) return;
    const all = [...this.#left].map((k) => `"${k}": ${JSON.stringify(this.#json[k])}`).join(", ");
    throw new UnsupportedError(this.#op, `unknown keys, which may change the network: ${all}`);
  }
}
