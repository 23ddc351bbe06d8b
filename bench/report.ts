// Results as a table for people, and as a file: one JSON per machine and day, to which later runs may add rows.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Row } from "./compare.ts";
import type { Machine } from "./machine.ts";

/** What a results file holds. */
export interface Results {
  readonly schema: 1;
  readonly date: string;
  readonly commit: string | undefined;
  readonly machine: Machine;
  readonly driver: string | undefined;
  readonly rows: readonly Row[];
}

const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

/** The figures of one row as words, in the order of the columns. */
function cells(row: Row): string[] {
  const { medianMs, lowMs, highMs, work, unit, rate, ratio, coldMs, peakBytes, deviceBytes, ofPeak, ofCopy, difference, othersCores } = row;
  if (row.absent) return [row.contestant, row.absent];
  const at = (ms: number) => (work > 0 ? digits(work / ms / 1e6) : digits(ms));
  const share = ofPeak !== undefined ? `${percent(ofPeak)} of peak` : ofCopy !== undefined ? `${percent(ofCopy)} of copy` : "";
  return [
    row.contestant,
    `${rate === undefined ? digits(medianMs!) : digits(rate)} ${unit}`,
    work > 0 ? `${at(highMs!)}–${at(lowMs!)}` : `${at(lowMs!)}–${at(highMs!)}`,
    ratio === undefined ? "" : `${ratio.toFixed(2)}x`,
    share,
    work > 0 ? digits(work / row.processorMs! / 1e6) : digits(row.processorMs!),
    row.processorRatio === undefined ? "" : `${row.processorRatio.toFixed(2)}x`,
    `${digits(coldMs!)} ms`,
    peakBytes ? mib(peakBytes) : "",
    deviceBytes ? mib(deviceBytes) : "",
    difference === undefined ? "" : difference.toExponential(0),
    othersCores === undefined ? "" : othersCores.toFixed(1),
  ];
}

const heads = ["", "median", "spread", "time / Wick's", "share", "per cpu s", "ratio", "cold", "process", "device", "difference", "others"];

/** One case as aligned text. */
export function caseTable(rows: readonly Row[]): string {
  const lines = [heads, ...rows.map(cells)];
  const full = lines.filter((l) => l.length > 2);
  const widths = heads.map((_, i) => Math.max(...full.map((l) => l[i]?.length ?? 0)));
  const text = lines.map((l) =>
    l
      .map((cell, i) => (i === 0 || l.length === 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
  return [rows[0]?.case ?? "", ...text.map((line) => `  ${line}`)].join("\n");
}

/**
 * A table of medians for a page: a line per case, a column per contestant of `rows`; in brackets the time over Wick's, for Wick the share of
 * the peak or of a copy; all by the wall clock, or by processor time. "n/a": no such operator; "–": missing or failed. Cases without a figure of Wick's are left out.
 */
export function markdown(rows: readonly Row[], byProcessor = false): string {
  const columns = [...new Set(rows.map(columnOf))].sort((a, b) => Number(b.startsWith("Wick")) - Number(a.startsWith("Wick")));
  const cell = (row: Row | undefined): string => {
    if (!row || row.absent) return row?.absent?.startsWith("not supported") ? "n/a" : "–";
    const ms = byProcessor ? row.processorMs! : row.medianMs!;
    const share = byProcessor ? row.ofPeakByProcessor : (row.ofPeak ?? row.ofCopy);
    const ratio = byProcessor ? row.processorRatio : row.ratio;
    const extra = ratio !== undefined ? ` (${ratio.toFixed(2)})` : share !== undefined ? ` (${percent(share)})` : "";
    return `${digits(row.work > 0 ? row.work / ms / 1e6 : ms)}${extra}`;
  };
  const cases = [...new Set(rows.filter((r) => r.library === "wick" && !r.absent).map((r) => r.case))];
  const lines = cases.map((id) => {
    const { unit } = rows.find((r) => r.case === id)!;
    return `| ${id}, ${unit} | ${columns.map((c) => cell(rows.find((r) => r.case === id && columnOf(r) === c))).join(" | ")} |`;
  });
  return [`| | ${columns.join(" | ")} |`, `|---|${columns.map(() => "---:").join("|")}|`, ...lines].join("\n");
}

/** Heading of a contestant's column, without what the whole table has in common. */
function columnOf({ library, runtime, variant, threads }: Row): string {
  const name = library === "wick" ? "Wick" : library;
  const notes = [
    ...(variant ? [variant] : []),
    ...(/^Node/.test(runtime) ? [] : [runtime]),
    ...(library === "tfjs-wasm" ? [`${threads} thread`] : []),
  ];
  return notes.length > 0 ? `${name} (${notes.join(", ")})` : name;
}

/** Writes the results; rows of the same case, contestant and opponent in an existing file are replaced. Refuses a file of another machine. */
export function save(path: string, results: Results): void {
  const old = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Results) : undefined;
  if (old && (old.machine.cpu !== results.machine.cpu || old.machine.gpu !== results.machine.gpu))
    throw new Error(`${path} is of another machine (${old.machine.cpu}); choose another file with --into`);
  const key = (row: Row) => `${row.case} | ${row.contestant} | ${row.against ?? ""}`;
  const replaced = new Set(results.rows.map(key));
  const rows = [...(old?.rows.filter((row) => !replaced.has(key(row))) ?? []), ...results.rows];
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify({ ...results, rows }, undefined, 1)}\n`);
}
