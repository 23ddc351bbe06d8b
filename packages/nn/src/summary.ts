// What a model consists of, without or with weights: a tree of modules with shapes, parameter counts and bytes per dtype.
import { bytesOf, type DType, dtypeInfo, type Shape } from "@wick/tensor";
import { type DTypePolicy, policyFor } from "./dtype-policy.ts";
import { classOf, Module, type ParameterSite, parameterSites } from "./module.ts";
import { Parameter } from "./parameter.ts";

/** One module, container or parameter of the tree. */
export interface SummaryNode {
  /** The name in its parent; the class name at the root. */
  readonly name: string;
  /** From the root down, joined by dots. */
  readonly path: string;
  /** The class, or "" for containers and parameters. */
  readonly type: string;
  /** Of a parameter. */
  readonly shape?: Shape;
  /** Of a parameter: what it is loaded as, or would be. */
  readonly dtype?: DType;
  /** Number of values, shared parameters counted at their first place. */
  readonly parameters: number;
  /** Of all weights inside, by format. */
  readonly bytesByDtype: Readonly<Partial<Record<DType, number>>>;
  /** Of all weights inside. */
  readonly bytes: number;
  /** What is directly inside. */
  readonly children: readonly SummaryNode[];
}

/** What a summary assumes of weights that are not loaded, and how deep its text goes. */
export interface SummaryOptions {
  /** As for `load`: what weights that are not loaded would become. */
  readonly dtype?: DType | DTypePolicy;
  /** What the checkpoint holds; bf16 by default. */
  readonly stored?: DType;
  /** Levels of the text below the root; 3 by default. */
  readonly depth?: number;
}

export interface Summary extends SummaryNode {
  /** The tree as text; alike neighbours are drawn once. */
  toString(): string;
}

/** Describes `model` and everything in it; loaded weights count as they are, others as `dtype` would load them. */
export function summary(model: Module, options: SummaryOptions = {}): Summary {
  const { depth = 3 } = options;
  const dtypes = plannedDTypes(model, options);
  const root = node(model, classOf(model), "", dtypes, new Set());
  return { ...root, toString: () => draw(root, depth).join("\n") };
}

/** Bytes of all weights once `load` has brought them in as `dtype`, from a checkpoint that holds `stored` (bf16 by default). */
export function estimateBytes(model: Module, dtype?: DType | DTypePolicy, { stored = "bf16" }: { stored?: DType } = {}): number {
  const policy = policyFor(model, dtype);
  let bytes = 0;
  for (const site of parameterSites(model))
    if (site.aliasOf === undefined) bytes += roundedBytes(policy({ ...site, stored }), site.parameter);
  return bytes;
}

/** Rows are whole blocks: shapes that are not stay in the checkpoint's format, which the policies see to. */
const roundedBytes = (dtype: DType, p: Parameter): number =>
  bytesOf(dtype, Math.ceil(p.size / dtypeInfo[dtype].blockSize) * dtypeInfo[dtype].blockSize);

function plannedDTypes(model: Module, { dtype, stored = "bf16" }: SummaryOptions): ReadonlyMap<Parameter, DType> {
  const policy = policyFor(model, dtype);
  const of = (site: ParameterSite): DType => site.parameter.loadedDType ?? policy({ ...site, stored });
  return new Map([...parameterSites(model)].map((site) => [site.parameter, of(site)]));
}

function node(part: unknown, name: string, path: string, dtypes: ReadonlyMap<Parameter, DType>, seen: Set<Parameter>): SummaryNode {
  if (part instanceof Parameter) return leaf(part, name, path, dtypes.get(part)!, seen);
  const entries = part instanceof Module ? part.children() : Object.entries(part as object);
  const children: SummaryNode[] = [];
  for (const [key, child] of entries) {
    if (isPart(child)) children.push(node(child, key, path ? `${path}.${key}` : key, dtypes, seen));
  }
  const bytesByDtype: Partial<Record<DType, number>> = {};
  for (const c of children)
    for (const [d, n] of Object.entries(c.bytesByDtype)) bytesByDtype[d as DType] = (bytesByDtype[d as DType] ?? 0) + n;
  const total = (of: (c: SummaryNode) => number): number => children.reduce((sum, c) => sum + of(c), 0);
  const type = part instanceof Module ? classOf(part) : "";
  return { name, path, type, parameters: total((c) => c.parameters), bytesByDtype, bytes: total((c) => c.bytes), children };
}

function leaf(p: Parameter, name: string, path: string, dtype: DType, seen: Set<Parameter>): SummaryNode {
  const shared = seen.has(p);
  seen.add(p);
  const bytes = shared ? 0 : roundedBytes(dtype, p);
  const parameters = shared ? 0 : p.size;
  return { name, path, type: "", shape: p.shape, dtype, parameters, bytesByDtype: { [dtype]: bytes }, bytes, children: [] };
}

const isPart = (value: unknown): boolean =>
  value instanceof Parameter ||
  value instanceof Module ||
  Array.isArray(value) ||
  (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype);

/** Same shapes and classes all the way down, whatever the names. */
const likeness = (n: SummaryNode): string =>
  n.shape ? `${n.name} ${n.shape} ${n.dtype}` : `${n.type}(${n.children.map((c) => `${c.name}:${likeness(c)}`).join()})`;

function draw(root: SummaryNode, depth: number): string[] {
  const lines: [string, string][] = [];
  const visit = (n: SummaryNode, label: string, indent: number, count: number): void => {
    lines.push([`${"  ".repeat(indent)}${label}${describeKind(n)}`, n.parameters > 0 || n.shape ? describeSize(n, count) : ""]);
    if (indent === depth) return;
    for (const group of alike(n.children)) {
      const first = group[0]!;
      const names = group.length === 1 ? first.name : `${first.name}…${group.at(-1)!.name}`;
      visit(first, names, indent + 1, count * group.length);
    }
  };
  visit(root, root.name, 0, 1);
  const width = Math.max(...lines.map(([left]) => left.length));
  return lines.map(([left, right]) => (right ? `${left.padEnd(width)}  ${right}` : left));
}

const describeKind = (n: SummaryNode): string => (n.shape ? ` [${n.shape.join(", ")}]` : n.type && n.type !== n.name ? ` ${n.type}` : "");

/** Runs of neighbours that look alike. */
function alike(children: readonly SummaryNode[]): SummaryNode[][] {
  const groups: SummaryNode[][] = [];
  for (const c of children) {
    const last = groups.at(-1);
    if (last && !c.shape && !last[0]!.shape && likeness(last[0]!) === likeness(c) && /^\d+$/.test(c.name)) last.push(c);
    else groups.push([c]);
  }
  return groups;
}

function describeSize(n: SummaryNode, count: number): string {
  if (n.parameters === 0) return "shared";
  const dtypes = Object.entries(n.bytesByDtype)
    .filter(([, b]) => b > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([d, b]) => `${d} ${formatBytes(b)}`);
  const times = count > 1 ? `${count} x ` : "";
  return `${times}${formatCount(n.parameters)}, ${dtypes.join(" + ")}`;
}

const scaled = (value: number, units: readonly string[]): string => {
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(4)} ${units[unit]}`;
};
const formatCount = (n: number): string => scaled(n, ["values", "K", "M", "B"]);
/** Decimal units, as files are sold. */
const formatBytes = (n: number): string => scaled(n, ["bytes", "kB", "MB", "GB"]);
