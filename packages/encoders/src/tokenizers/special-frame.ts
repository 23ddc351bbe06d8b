// The post-processor of tokenizer.json for a single text: which special ids stand before and after its tokens.

import { TokenizerError } from "./errors.ts";
import { asArray, asObject, asString, asTokenId, type JsonObject } from "./json-fields.ts";

/** Special ids put before and after the tokens of a text. */
export interface SpecialFrame {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

function robertaFrame(config: JsonObject, path: string): SpecialFrame {
  const id = (name: string) => asTokenId(asArray(config[name], `${path}.${name}`)[1], `${path}.${name}[1]`);
  return { before: [id("cls")], after: [id("sep")] };
}

function templateFrame(config: JsonObject, path: string): SpecialFrame {
  const specials = asObject(config["special_tokens"], `${path}.special_tokens`);
  const before: number[] = [];
  const after: number[] = [];
  let seenText = false;
  for (const [i, entry] of asArray(config["single"], `${path}.single`).entries()) {
    const item = asObject(entry, `${path}.single[${i}]`);
    if (item["SpecialToken"] === undefined) {
      seenText = true;
      continue;
    }
    const name = asString(asObject(item["SpecialToken"], `${path}.single[${i}]`)["id"], `${path}.single[${i}].id`);
    const ids = asObject(specials[name], `${path}.special_tokens[${JSON.stringify(name)}]`)["ids"];
    for (const id of asArray(ids, `${path}.special_tokens.ids`)) (seenText ? after : before).push(asTokenId(id, `${path}.ids`));
  }
  return { before, after };
}

function sequenceFrame(config: JsonObject, path: string): SpecialFrame {
  const steps = asArray(config["processors"], `${path}.processors`);
  return steps
    .map((step, i) => parseSpecialFrame(step, `${path}.processors[${i}]`))
    .reduce((inner, outer) => ({ before: [...outer.before, ...inner.before], after: [...inner.after, ...outer.after] }));
}

/** Reads the `post_processor` of tokenizer.json (null adds nothing); throws TokenizerError for a type not supported. */
export function parseSpecialFrame(value: unknown, path: string): SpecialFrame {
  if (value === null || value === undefined) return { before: [], after: [] };
  const config = asObject(value, path);
  const type = asString(config["type"], `${path}.type`);
  switch (type) {
    case "ByteLevel":
      return { before: [], after: [] };
    case "RobertaProcessing":
    case "BertProcessing":
      return robertaFrame(config, path);
    case "TemplateProcessing":
      return templateFrame(config, path);
    case "Sequence":
      return sequenceFrame(config, path);
    default:
      throw new TokenizerError("tokenizer", `${path}.type is not supported: ${type}`);
  }
}
