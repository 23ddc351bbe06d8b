// The dependency rule as code: an import goes to a strictly lower layer; packages/testing only from tests; a file stays
// inside its package; inside tensor, ops and loaders know no backend; no import
// cycles, of types neither, but for two stated ones.
import { posix } from "node:path";
import type { Import } from "./imports.ts";

/** Layer of every published package. The command line is on top; examples, bench and tools stand outside and may import all. */
export const layers: Readonly<Record<string, number>> = {
  tensor: 0,
  image: 0,
  hub: 0,
  "tiny-zimage": 0,
  nn: 1,
  encoders: 2,
  vae: 2,
  diffusion: 2,
  "models-flux": 3,
  "models-zimage": 3,
  cli: 4,
};

/** A source file: path from the repository root with forward slashes, and its imports. */
export interface SourceFile {
  readonly path: string;
  readonly imports: readonly Import[];
}

/** Dependency names each package declares, by folder name under packages/. */
export type Declared = Readonly<Record<string, ReadonlySet<string>>>;

/** Folders of tensor/src that must not know a backend. */
const backendFree = /^packages\/tensor\/src\/(ops|loaders)\//;

/** Package folder and part ("src", "test", ...) of a path, or null outside packages/. */
function placeOf(path: string): { name: string; part: string } | null {
  const [top, name, part] = path.split("/");
  return top === "packages" && name && part ? { name, part } : null;
}

/** Why `name` (its `part`) may not import the workspace package `target`, or null when it may. */
function refuseWorkspace(name: string, part: string, target: string): string | null {
  if (target === "testing") return part === "test" || name === "testing" ? null : "testing is for tests only";
  if (name === "testing" || target === name) return target === name && part === "src" ? "a package does not import itself by name" : null;
  const [from, to] = [layers[name], layers[target]];
  if (from === undefined) return `packages/${name} has no layer; give it one in tools/layers.ts`;
  if (to === undefined) return `there is no package @wick/${target}`;
  return to < from ? null : `${name} is layer ${from}, ${target} is layer ${to}; an import goes to a lower layer`;
}

/** Why `path` may not import the file `target` of the same repository, or null when it may. */
function refuseRelative(path: string, target: string): string | null {
  const place = placeOf(path);
  if (!place) return null;
  const home = place.part === "src" ? `packages/${place.name}/src/` : `packages/${place.name}/`;
  if (!target.startsWith(home)) return `leaves ${home}`;
  const isBackend = target.startsWith("packages/tensor/src/backends/");
  return isBackend && backendFree.test(path) ? "tensor's ops and loaders know no backend" : null;
}

/** Why the import is not allowed, or null when it is. */
function refuse(file: SourceFile, { specifier }: Import, declared: Declared): string | null {
  if (specifier.startsWith(".")) {
    if (!/\.(ts|json|css|svg|wasm)(\?\w+)?$/.test(specifier)) return "a relative import ends in .ts";
    return refuseRelative(file.path, posix.join(posix.dirname(file.path), specifier));
  }
  const place = placeOf(file.path);
  if (!place || specifier.startsWith("node:")) return null;
  const [first = "", second = ""] = specifier.split("/");
  const dependency = first.startsWith("@") ? `${first}/${second}` : first;
  if (place.part === "src" && dependency !== `@wick/${place.name}` && !declared[place.name]?.has(dependency)) {
    return `${dependency} is not among the dependencies of packages/${place.name}/package.json`;
  }
  return first === "@wick" ? refuseWorkspace(place.name, place.part, second) : null;
}

/** Every forbidden import of `files`, one line each: "path:line: imports X: reason". */
export function forbiddenImports(files: readonly SourceFile[], declared: Declared): string[] {
  return files.flatMap((file) =>
    file.imports.flatMap((entry) => {
      const reason = refuse(file, entry, declared);
      return reason ? [`${file.path}:${entry.line}: imports ${entry.specifier}: ${reason}`] : [];
    }),
  );
}

/**
 * The only files whose types may be imported by what they import themselves, each with its reason: a program holds a Tensor and asks it for everything,
 * so its methods name what is defined over tensors, and that names tensors in turn.
 */
const inherentCircles: ReadonlyMap<string, string> = new Map([
  ["packages/tensor/src/tensor.ts", "every op is a method of Tensor and a function of tensors"],
  ["packages/tensor/src/device.ts", "a device makes tensors, and a tensor says which device it is on"],
]);

/** Every cycle of imports among `files`, types and import() included, as "a.ts -> b.ts -type-> a.ts"; those of `inherent` files do not count. */
export function importCycles(files: readonly SourceFile[], inherent: ReadonlyMap<string, string> = inherentCircles): string[] {
  const edges = new Map(files.map((file) => [file.path, localTargets(file, inherent)]));
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly Edge[]): void => {
    if (state.get(path) === "open") cycles.push(cycleText(path, trail));
    if (state.has(path)) return;
    state.set(path, "open");
    for (const edge of edges.get(path) ?? []) visit(edge.to, [...trail, edge]);
    state.set(path, "done");
  };
  for (const path of edges.keys()) visit(path, []);
  return cycles;
}

/** An import of a file of the same repository. */
interface Edge {
  readonly to: string;
  readonly kind: Import["kind"];
}

const arrows: Readonly<Record<Import["kind"], string>> = { value: "->", type: "-type->", lazy: "-lazy->" };

/** The end of `trail` that starts and ends at `path`. */
function cycleText(path: string, trail: readonly Edge[]): string {
  const from = trail.slice(0, -1).findLastIndex(({ to }) => to === path) + 1;
  return (
    path +
    trail
      .slice(from)
      .map(({ to, kind }) => ` ${arrows[kind]} ${to}`)
      .join("")
  );
}

/** The files that `file` imports, each once, by value if by value at all. */
function localTargets(file: SourceFile, inherent: ReadonlyMap<string, string>): Edge[] {
  const local = file.imports
    .filter(({ specifier }) => specifier.startsWith("."))
    .map(({ specifier, kind }) => ({ to: posix.join(posix.dirname(file.path), specifier), kind }));
  return local.filter(({ to, kind }) => kind !== "type" || (!inherent.has(to) && !local.some((l) => l.to === to && l.kind === "value")));
}
