// Types of protocol.mjs for the contestant written in TypeScript.

/** What a contestant makes of a case. */
export interface Job {
  readonly note?: string | undefined;
  /** What the contestant must do once before it can run: part of the cold time. */
  readonly setupMs?: number;
  run(): Promise<void>;
  /** The last result, in the order of the case. */
  output?(): ArrayLike<number> | Promise<ArrayLike<number>>;
  /** Highest device memory since the case was prepared. */
  deviceBytes?(): number;
}

export interface Contestant {
  readonly version: string;
  readonly detail: string;
  prepare(spec: Readonly<Record<string, unknown>>, inputs: Readonly<Record<string, Float32Array>>): Promise<Job>;
  reference?(): Promise<Readonly<Record<string, number>>>;
}

export class Unsupported extends Error {}
export function serve(open: () => Promise<Contestant>): Promise<void>;
export function sampleOf(values: ArrayLike<number>): number[];
