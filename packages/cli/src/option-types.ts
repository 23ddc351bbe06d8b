// Values of options: parsed strictly, with errors that say what is allowed.
import { InvalidArgumentError } from "commander";

/** A parser of whole numbers in min…max. */
export const wholeNumber =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (/^-?\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`a whole number in ${min}…${max} is needed`);
  };

/** A parser of finite numbers in min…max. */
export const decimalNumber =
  (min: number, max = Number.MAX_VALUE) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() !== "" && value >= min && value <= max) return value;
    throw new InvalidArgumentError(
      max === Number.MAX_VALUE ? `a number of at least ${min} is needed` : `a number in ${min}…${max} is needed`,
    );
  };

const unitSizes: Readonly<Record<string, number>> = {
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** A number of bytes with its unit: "8GB", "7.5 GiB". */
export function byteSize(text: string): number {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?) ?([a-z]+)$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(number) * (unitSizes[unit.toLowerCase()] ?? Number.NaN));
  if (bytes > 0) return bytes;
  throw new InvalidArgumentError("a size with its unit is needed, such as 500MB, 8GB or 7.5GiB");
}

/** A seed: a whole number that fits 64 bits, or "random". */
export function seedNumber(text: string): number | bigint {
  if (text === "random") return Math.floor(Math.random() * 2 ** 32);
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n)
    throw new InvalidArgumentError("a whole number in 0…18446744073709551615, or random, is needed");
  const value = BigInt(text);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

/** Decreasing noise levels, comma-separated. */
export function sigmaList(text: string): number[] {
  const values = text.split(",").map(Number);
  if (values.length >= 2 && values.every((v) => v >= 0 && v <= 1)) return values;
  throw new InvalidArgumentError("at least two comma-separated numbers in 0…1 are needed");
}

/** A file with a strength: `style.safetensors:0.8`; 1 when it is left out. */
export interface ScaledFile {
  readonly path: string;
  readonly scale: number;
}

/** Collects `FILE` or `FILE:SCALE` of a repeatable option. */
export function scaledFile(text: string, previous: readonly ScaledFile[] = []): readonly ScaledFile[] {
  const [, path = text, scale = "1"] = /^(.+):(-?\d+(?:\.\d+)?)$/.exec(text) ?? [];
  return [...previous, { path, scale: Number(scale) }];
}
