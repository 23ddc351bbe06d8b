// Figures as people read them.

/** Bytes in decimal units, as disks and downloads are sold: "22.7 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** A duration: "0.4 s", "12 s", "3 min 05 s", "2 h 10 min". */
export function formatDuration(millis: number): string {
  const seconds = millis / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

/** A count with a unit prefix: "6.15 B" parameters. */
export function formatCount(count: number): string {
  for (const [size, unit] of [
    [1e9, " B"],
    [1e6, " M"],
    [1e3, " k"],
  ] as const) {
    if (count >= size) return `${(count / size).toFixed(count / size >= 100 ? 0 : 2)}${unit}`;
  }
  return String(count);
}

/** Text out of a file on one line of a terminal, which would obey the control characters in it. */
export const printable = (text: string): string =>
  text.replace(/\p{Cc}/gu, (c) => (c === "\n" ? "\\n" : `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`));

/** Rows as aligned columns, two spaces apart. */
export function formatTable(cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(printable));
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
