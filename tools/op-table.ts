// Writes docs/ops.md: every op, its names elsewhere, and which dtypes are checked against PyTorch. `--check` fails when the page is stale.
// A cell without goldens is tried on the CPU: the refusal's own words say why.
import { readFileSync, writeFileSync } from "node:fs";
import { cpu, type DType, DTypeError, ShapeError, scope } from "@wick/tensor";
import { calls, creations } from "../packages/tensor/test/conformance/calls.ts";
import { families, readFamily } from "../packages/tensor/test/conformance/goldens.ts";
import type { Row, Stored } from "../packages/tensor/test/conformance/run.ts";
import { opNames } from "./op-names.ts";

const dtypes: readonly DType[] = ["f32", "f16", "bf16", "i32", "u32", "u8"];
const page = new URL("../docs/ops.md", import.meta.url);

interface Tested {
  readonly rows: readonly Row[];
  readonly stored: Stored;
}

/** Why `op` has no goldens in `dtype`, from trying it. */
function reason(op: string, dtype: DType, { rows, stored }: Tested): string {
  using device = cpu();
  const row = rows[0]!;
  const cast = (o: Row["inputs"][number]) => {
    const t = device.fromBytes(stored.get(o.key)!, o.base, o.dtype);
    const indices = /^(index|ids|lengths|mask)$/.test(o.name);
    return indices ? t : t.to(dtype);
  };
  try {
    scope(() => {
      const create = creations[op];
      if (create) return void create(device, { ...row.args, dtype });
      const inputs = row.inputs.map((o) => [o.name, cast(o)] as const);
      const out = calls[op]!(inputs[0]![1], Object.fromEntries(inputs), row.args);
      for (const t of "isTensor" in out ? [out] : out) (t as { compute(): unknown }).compute();
    });
    return "runs; no golden of its own";
  } catch (error) {
    if (error instanceof DTypeError || error instanceof ShapeError) return error.message.split(": ")[1]!;
    throw error;
  }
}

async function table(): Promise<string> {
  const tested = new Map<string, Tested>();
  for (const family of families) {
    const { rows, stored } = await readFamily(family);
    for (const op of new Set(rows.map((r) => r.op))) {
      const before = tested.get(op);
      const own = rows.filter((r) => r.op === op);
      tested.set(op, { rows: [...(before?.rows ?? []), ...own], stored: new Map([...(before?.stored ?? []), ...stored]) });
    }
  }
  const notes = new Map<string, number>();
  const note = (text: string) => notes.get(text) ?? notes.set(text, notes.size + 1).get(text)!;
  const lines = Object.entries(opNames).map(([op, names]) => {
    const { rows, stored } = tested.get(op) ?? { rows: [], stored: new Map() };
    const cells = dtypes.map((d) => {
      const count = rows.filter((r) => r.dtype === d || r.args["dtype"] === d).length;
      return count > 0 ? `${count}` : `[${note(reason(op, d, { rows, stored }))}]`;
    });
    return `| \`${op}\` | \`${names.torch}\` | ${names.candle === "-" ? "-" : `\`${names.candle}\``} | ${cells.join(" | ")} |`;
  });
  const missing = [...tested.keys()].filter((op) => !(op in opNames));
  if (missing.length > 0) throw new Error(`tools/op-names.ts lacks ${missing.join(", ")}`);
  return [header, ...lines, "", ...[...notes].map(([text, n]) => `[${n}] ${text}`), ""].join("\n");
}

const header = `# Ops

Made by \`npx tsx --conditions=@wick/source tools/op-table.ts\`; do not edit. A number is how many PyTorch goldens (layouts, shapes, edge cases) check the op
in that dtype. The same rows run on the CPU backend, and a spread of them on WebGPU and in a browser; an op exists on all backends, because a
backend without one of its kernels does not compile. A backend may leave out the fused kernels (softmax, norms, attention, rope): they are then computed
from basic ops (\`ops/composed.ts\`), which pass the same rows. f16 and bf16 compute in f32 and round once. i64, f8 and quantized dtypes are storage
formats: cast or dequantize them, or use them as the right side of \`matmul\`, in \`linear\` and in \`embedding\`.

| op | PyTorch | candle | ${dtypes.join(" | ")} |
|---|---|---|${dtypes.map(() => "---").join("|")}|`;

const text = await table();
if (process.argv.includes("--check")) {
  if (readFileSync(page, "utf8") !== text) {
    process.stderr.write("docs/ops.md is stale: run npx tsx --conditions=@wick/source tools/op-table.ts\n");
    process.exitCode = 1;
  }
} else writeFileSync(page, text);
