// Measures one row: every contestant in a fresh process, prepared and warmed one after the other, then timed in interleaved rounds.
import type { Case } from "./cases.ts";
import type { Contestant } from "./contestants.ts";
import { type Answer, PeerProcess, type Round } from "./peer-process.ts";

/** Limits measured between the rounds by the process of a contestant. */
export interface Reference {
  readonly copyGBs?: number;
  readonly peakGflopsPerThread?: number;
}

/** A contestant's figures in one row. */
export interface Row {
  readonly case: string;
  readonly unit: Case["unit"];
  readonly work: number;
  readonly contestant: string;
  readonly library: string;
  readonly runtime: string;
  readonly threads?: number | undefined;
  readonly variant?: string | undefined;
  readonly version?: string;
  readonly detail?: string;
  /** When it was measured and of which commit: rows of one file may be of different runs. */
  readonly date?: string;
  readonly commit?: string | undefined;
  /** Why there are no figures. */
  readonly absent?: string;
  readonly note?: string | undefined;
  /** Of the rounds' medians: median, lowest, highest. */
  readonly medianMs?: number;
  readonly lowMs?: number;
  readonly highMs?: number;
  readonly rounds?: readonly number[];
  /** In the row's unit, from the median; absent where only the time counts. */
  readonly rate?: number;
  /** Its time over Wick's in the same round, median: above 1 Wick is faster. */
  readonly ratio?: number;
  readonly against?: string;
  /** The same by processor time: what a busy machine disturbs less; fair with one thread, as waiting threads may spin. */
  readonly processorMs?: number;
  readonly processorRatio?: number;
  /** Share of the multiply-add peak of all its threads, or of the bandwidth of a copy, measured between the rounds (Wick only). */
  readonly ofPeak?: number;
  readonly ofCopy?: number;
  readonly reference?: Reference;
  /** Share of the peak by processor time: what a busy machine disturbs less. */
  readonly ofPeakByProcessor?: number;
  readonly coldMs?: number;
  /** Highest resident memory of the process, and what it had before the row, in bytes. */
  readonly peakBytes?: number | undefined;
  readonly baselineBytes?: number | undefined;
  readonly deviceBytes?: number | undefined;
  /** Relative L2 distance of 16 results from those of the first Wick entry. */
  readonly difference?: number;
  /** Cores that other processes used during the rounds, median. */
  readonly othersCores?: number | undefined;
}

interface Prepared {
  readonly process: PeerProcess;
  readonly ready: Answer;
  readonly answer: Answer;
  readonly baselineBytes: number | undefined;
  readonly rounds: (Round | undefined)[];
  readonly references: Reference[];
}

export interface CompareOptions {
  readonly rounds: number;
  /** Time spent in one round of one contestant unless a single run takes longer, in milliseconds. */
  readonly minMs: number;
  readonly onProgress: (text: string) => void;
}

const at = (values: readonly number[], share: number): number => values.toSorted((a, b) => a - b)[Math.round(share * (values.length - 1))]!;

/** Starts a contestant and prepares the case; on failure `answer` says why. */
async function prepare(contestant: Contestant, one: Case): Promise<Prepared> {
  const process = new PeerProcess(contestant);
  const started = await process.next(120);
  const state = { process, rounds: [], references: [], baselineBytes: process.residentBytes };
  if (!started["ready"]) return { ...state, ready: {}, answer: started };
  const answer = await process.ask({ prepare: { op: one.op, ...one.spec } });
  const prepared = { ...state, ready: started["ready"] as Answer, answer };
  if (isPrepared(prepared)) await process.round({ minMs: 300, maxRuns: 30, warmUp: 0 });
  process.pause();
  return prepared;
}

const isPrepared = ({ answer }: Prepared): boolean => typeof answer["coldMs"] === "number";

async function oneRound(peer: Prepared, minMs: number): Promise<void> {
  const { process, rounds, references, answer } = peer;
  process.resume();
  const last = rounds.at(-1)?.ms ?? (answer["coldMs"] as number);
  rounds.push(await process.round({ minMs, maxRuns: 200, warmUp: last < 500 ? 1 : 0 }));
  if (process.contestant.library === "wick") references.push((await process.ask({ reference: true })) as Reference);
  process.pause();
}

/** The Wick entry that a contestant is compared with: its own runtime and threads where there is one. */
function opponent(peers: readonly Prepared[], { runtime, threads }: Contestant): Prepared | undefined {
  const own = peers.filter((p) => p.process.contestant.library === "wick" && !p.process.contestant.variant && isPrepared(p));
  const same = own.filter((p) => p.process.contestant.threads === threads);
  return same.find((p) => p.process.contestant.runtime === runtime) ?? same.at(-1) ?? own.at(-1);
}

/** ‖a − b‖ / ‖b‖ */
function distance(a: readonly number[], b: readonly number[]): number {
  const square = (values: readonly number[]) => values.reduce((sum, v) => sum + v * v, 0);
  return Math.sqrt(square(a.map((v, i) => v - b[i]!)) / square(b));
}

function absence({ answer }: Prepared): string {
  if (answer["missing"]) return `missing: ${answer["missing"]}`;
  if (answer["unsupported"]) return `not supported: ${answer["unsupported"]}`;
  return `failed: ${answer["failed"]}`;
}

function shares(one: Case, { process, references, rounds }: Prepared, medianMs: number): Partial<Row> {
  const reference: Reference = {};
  for (const key of ["copyGBs", "peakGflopsPerThread"] as const) {
    const found = references.map((r) => r[key]).filter((v) => v !== undefined);
    if (found.length > 0) Object.assign(reference, { [key]: at(found, 0.5) });
  }
  const rate = one.work / medianMs / 1e6;
  const { copyGBs, peakGflopsPerThread } = reference;
  if (one.unit === "GB/s" && copyGBs) return { reference, ofCopy: rate / copyGBs };
  if (one.unit !== "GFLOP/s" || !peakGflopsPerThread) return { reference };
  const processorMs = at(
    rounds.map((r) => r!.processorMs),
    0.5,
  );
  const peak = peakGflopsPerThread * (process.contestant.threads ?? 1);
  return { reference, ofPeak: rate / peak, ofPeakByProcessor: one.work / processorMs / 1e6 / peakGflopsPerThread };
}

function figures(one: Case, peer: Prepared, peers: readonly Prepared[]): Partial<Row> {
  const { process, answer, rounds, baselineBytes } = peer;
  if (!isPrepared(peer)) return { absent: absence(peer) };
  if (rounds.length === 0 || rounds.some((r) => !r)) return { absent: "failed: a round did not finish" };
  const times = rounds.map((r) => r!.ms);
  const medianMs = at(times, 0.5);
  const rival = opponent(peers, process.contestant);
  const first = peers.find((p) => p.process.contestant.library === "wick" && isPrepared(p));
  const sample = answer["sample"] as number[] | null | undefined;
  const expected = first?.answer["sample"] as number[] | null | undefined;
  const others = rounds.map((r) => r!.othersCores).filter((v) => v !== undefined);
  const deviceBytes = rounds.map((r) => r!.deviceBytes).filter((v) => v !== undefined);
  const processorTimes = rounds.map((r) => r!.processorMs);
  const compared = rival && rival !== peer && rival.rounds.every((r) => r);
  return {
    medianMs,
    lowMs: at(times, 0),
    highMs: at(times, 1),
    rounds: times,
    processorMs: at(processorTimes, 0.5),
    ...(one.work > 0 ? { rate: one.work / medianMs / 1e6 } : {}),
    ...(compared
      ? {
          ratio: at(
            times.map((ms, i) => ms / rival.rounds[i]!.ms),
            0.5,
          ),
          processorRatio: at(
            processorTimes.map((ms, i) => ms / rival.rounds[i]!.processorMs),
            0.5,
          ),
          against: rival.process.contestant.name,
        }
      : {}),
    ...shares(one, peer, medianMs),
    coldMs: answer["coldMs"] as number,
    note: (answer["note"] as string | null) ?? undefined,
    baselineBytes,
    peakBytes: process.peakBytes,
    deviceBytes: deviceBytes.length > 0 ? Math.max(...deviceBytes) : undefined,
    ...(sample && expected && first !== peer ? { difference: distance(sample, expected) } : {}),
    othersCores: others.length > 0 ? at(others, 0.5) : undefined,
  };
}

const identity = (one: Case, { name, library, runtime, threads, variant }: Contestant): Row => {
  const { id, unit, work } = one;
  return { case: id, unit, work, contestant: name, library, runtime, threads, variant };
};

function rowOf(one: Case, peer: Prepared, peers: readonly Prepared[]): Row {
  const { version, detail } = peer.ready as { version?: string; detail?: string };
  const about = { ...(version ? { version } : {}), ...(detail ? { detail } : {}) };
  return { ...identity(one, peer.process.contestant), ...about, ...figures(one, peer, peers) };
}

/** All contestants' figures for one case. */
export async function compare(one: Case, entries: readonly Contestant[], options: CompareOptions): Promise<Row[]> {
  const peers: Prepared[] = [];
  try {
    for (const entry of entries.filter((e) => !e.absent)) {
      options.onProgress(`${one.id}: starting ${entry.name}`);
      peers.push(await prepare(entry, one));
    }
    const able = peers.filter(isPrepared);
    for (let round = 0; round < options.rounds; round++) {
      options.onProgress(`${one.id}: round ${round + 1} of ${options.rounds}`);
      // Another one begins each round, so that no contestant always follows the same one.
      for (let i = 0; i < able.length; i++) await oneRound(able[(i + round) % able.length]!, options.minMs);
    }
    return entries.map((entry) => {
      const peer = peers.find((p) => p.process.contestant === entry);
      return peer ? rowOf(one, peer, peers) : { ...identity(one, entry), absent: `missing: ${entry.absent}` };
    });
  } finally {
    for (const { process } of peers) process.close();
  }
}
