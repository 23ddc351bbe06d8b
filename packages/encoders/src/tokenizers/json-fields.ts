// Reads fields of untrusted JSON with an error that names the file and the path of the offending value.

import { TokenizerError } from "./errors.ts";

/** A JSON object whose fields have not been checked yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function refuse(path: string, wanted: string, value: unknown): never {
  throw new TokenizerError("tokenizer", `${path} must be ${wanted}: got ${show(value)}`);
}

/** Parses JSON text of the named file to an object; throws TokenizerError when it is no JSON object. */
export function parseJsonObject(file: string, text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text.startsWith("\uFEFF") ? text.slice(1) : text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TokenizerError("tokenizer", `${file} is not valid JSON: ${reason}; download the file again`, { cause });
  }
  return asObject(value, file);
}

/** Returns `value` as a JSON object; throws TokenizerError naming `path` otherwise. */
export function asObject(value: unknown, path: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(path, "an object", value);
  return value as JsonObject;
}

/** Returns `value` as an array; throws TokenizerError naming `path` otherwise. */
export function asArray(value: unknown, path: string): readonly unknown[] {
  if (!Array.isArray(value)) refuse(path, "an array", value);
  return value;
}

/** Returns `value` as a string; throws TokenizerError naming `path` otherwise. */
export function asString(value: unknown, path: string): string {
  if (typeof value !== "string") refuse(path, "a string", value);
  return value;
}

/** Returns `value` as a finite number; throws TokenizerError naming `path` otherwise. */
export function asNumber(value: unknown, path: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) refuse(path, "a number", value);
  return value;
}

/** Tells whether `value` is a token id: an integer from 0 to 2^31 - 1. */
export function isTokenId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0x7fffffff;
}

/** Returns `value` as a token id (an integer from 0 to 2^31 - 1); throws TokenizerError naming `path` otherwise. */
export function asTokenId(value: unknown, path: string): number {
  if (!isTokenId(value)) refuse(path, "a token id", value);
  return value;
}

/** Returns an optional boolean field; throws TokenizerError naming `path` when it is present but no boolean. */
export function asFlag(value: unknown, path: string, otherwise: boolean): boolean {
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== "boolean") refuse(path, "true or false", value);
  return value;
}
