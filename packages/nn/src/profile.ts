// Where the time of a run goes: by module of the models it runs, and by kernel. `forward` is wrapped on the classes, not on the instances, so that
// code which asks whether a module's `forward` is its own, and then calls a fused kernel, does what it does unprofiled.
import { type Device, type OpSummary, type OpTiming, summarizeProfile } from "@wick/tensor";
import { classOf, type Module, namedModules } from "./module.ts";

/** Time of the kernels that one module recorded. */
export interface ModuleTiming {
  /** In its model; the model's name first, where there are several. */
  readonly path: string;
  /** Its class. */
  readonly type: string;
  /** Of `forward`. */
  readonly calls: number;
  /** Device time of its kernels and those of the modules inside, in milliseconds. */
  readonly totalMs: number;
  /** Device time of kernels recorded in it but in no module inside. */
  readonly selfMs: number;
  /** Operations of its kernels and those inside, where kernels state them. */
  readonly flops: number;
}

/** How a profile is printed. */
export interface ProfileTableOptions {
  /** Names in a path, that of the model included; 5 by default. */
  readonly depth?: number;
  /** Modules of less than this part of the time are left out; 0.01 by default. */
  readonly least?: number;
}

/** What a profiled run was made of. */
export interface ModuleProfile<R> {
  /** What the profiled function returned. */
  readonly result: R;
  /** Every kernel in order, `region` being the module's path; `chromeTrace` makes a file of them. */
  readonly timings: readonly OpTiming[];
  /** From begin to end, in milliseconds; what is not device time is host code, or waiting. */
  readonly wallMs: number;
  /** Sum over all kernels. */
  readonly deviceMs: number;
  /** Every module that ran, parents before children. */
  readonly modules: readonly ModuleTiming[];
  /** By kernel, the most expensive first. */
  readonly ops: readonly OpSummary[];
  /** Both tables; alike modules of a list are one row, "layers.*". */
  toString(options?: ProfileTableOptions): string;
}

interface Place {
  readonly path: string;
  readonly type: string;
  calls: number;
}
type Forward = (this: Module, ...inputs: unknown[]) => unknown;

/**
 * Runs `fn` and tells the device time of its kernels by module of `models` (one, or several by name) and by kernel. Elementwise ops wait to be joined,
 * so their time counts where their result was needed. Throws DeviceError when a profile is already running on the device.
 */
export async function profile<R>(
  device: Device,
  models: Module | Readonly<Record<string, Module>>,
  fn: () => R | Promise<R>,
): Promise<ModuleProfile<Awaited<R>>> {
  const places = placesOf(models);
  const inside: Place[] = [];
  const unwrap = wrapClasses(places, inside);
  const started = performance.now();
  let result: Awaited<R> | undefined;
  try {
    const run = async () => {
      result = await fn();
      await device.idle();
    };
    const timings = await device.profile(run, () => inside.at(-1)?.path);
    return profileOf(result as Awaited<R>, timings, performance.now() - started, [...places.values()]);
  } finally {
    unwrap();
  }
}

function placesOf(models: Module | Readonly<Record<string, Module>>): Map<Module, Place> {
  const places = new Map<Module, Place>();
  const one = "forward" in models || typeof (models as Module).unload === "function";
  for (const [name, model] of one ? [["", models as Module] as const] : Object.entries(models as Record<string, Module>))
    for (const [path, module] of namedModules(model, name)) {
      if (!places.has(module)) places.set(module, { path, type: classOf(module), calls: 0 });
    }
  return places;
}

/** Wraps `forward` on every class that has one; returns what undoes it. */
function wrapClasses(places: ReadonlyMap<Module, Place>, inside: Place[]): () => void {
  const originals = new Map<object, Forward>();
  for (const module of places.keys()) {
    for (let proto = Object.getPrototypeOf(module); proto && proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
      const own = Object.getOwnPropertyDescriptor(proto, "forward")?.value as Forward | undefined;
      if (own && !originals.has(proto)) {
        originals.set(proto, own);
        proto.forward = wrapped(own, places, inside);
      }
    }
  }
  return () => {
    for (const [proto, forward] of originals) (proto as { forward: Forward }).forward = forward;
  };
}

const wrapped = (forward: Forward, places: ReadonlyMap<Module, Place>, inside: Place[]): Forward =>
  function (...inputs) {
    const place = places.get(this);
    // super.forward stays in the same place.
    if (!place || inside.at(-1) === place) return forward.apply(this, inputs);
    place.calls++;
    inside.push(place);
    try {
      return forward.apply(this, inputs);
    } finally {
      inside.pop();
    }
  };

function profileOf<R>(result: R, timings: readonly OpTiming[], wallMs: number, places: readonly Place[]): ModuleProfile<R> {
  const own = new Map<string, { ms: number; flops: number }>();
  for (const { region = "", elapsedMicros, flops } of timings) {
    const sum = own.get(region) ?? { ms: 0, flops: 0 };
    own.set(region, { ms: sum.ms + elapsedMicros / 1e3, flops: sum.flops + flops });
  }
  const all = places.map(({ path, type, calls }): ModuleTiming => {
    const within = [...own].filter(([region]) => path === "" || region === path || region.startsWith(`${path}.`));
    const sum = (pick: (o: { ms: number; flops: number }) => number) => within.reduce((s, [, o]) => s + pick(o), 0);
    return { path, type, calls, totalMs: sum((o) => o.ms), selfMs: own.get(path)?.ms ?? 0, flops: sum((o) => o.flops) };
  });
  const modules = all.filter((m) => m.calls > 0 || m.totalMs > 0);
  const deviceMs = [...own.values()].reduce((s, o) => s + o.ms, 0);
  const figures = { timings, wallMs, deviceMs, modules, ops: summarizeProfile(timings) };
  return { result, ...figures, toString: (options) => profileText(figures, options) };
}

type Figures = Omit<ModuleProfile<unknown>, "result" | "toString">;

function profileText({ wallMs, deviceMs, modules, ops }: Figures, { depth = 5, least = 0.01 }: ProfileTableOptions = {}): string {
  const share = (ms: number) => `${((100 * ms) / deviceMs).toFixed(1)} %`;
  const rate = (flops: number, ms: number) => (flops > 0 && ms > 0 ? (flops / ms / 1e6).toFixed(1) : "");
  const rows = [...alike(modules).values()].filter((m) => m.path.split(".").length <= depth && m.totalMs >= least * deviceMs);
  const byModule = rows.map((m) => [
    m.path || "(model)",
    m.type,
    `${m.calls}`,
    m.totalMs.toFixed(2),
    share(m.totalMs),
    m.selfMs > 0 ? m.selfMs.toFixed(2) : "",
    rate(m.flops, m.totalMs),
  ]);
  const byOp = ops.map((o) => [
    o.op,
    "",
    `${o.count}`,
    o.elapsedMs.toFixed(2),
    share(o.elapsedMs),
    "",
    o.gflopsPerSecond > 0 ? o.gflopsPerSecond.toFixed(1) : "",
  ]);
  return columns([
    ["module", "class", "calls", "ms", "", "own ms", "GFLOP/s"],
    ...byModule,
    ["", "", "", "", "", "", ""],
    ["kernel", "", "launches", "ms", "", "", "GFLOP/s"],
    ...byOp,
    ["", "", "", "", "", "", ""],
    ["all kernels", "", "", deviceMs.toFixed(2), "", "", ""],
    ["begin to end", "", "", wallMs.toFixed(2), "", "", ""],
  ]);
}

/** Modules whose paths differ in numbers only, added up. */
function alike(modules: readonly ModuleTiming[]): Map<string, ModuleTiming> {
  const rows = new Map<string, ModuleTiming>();
  for (const m of modules) {
    const path = m.path.replace(/(^|\.)\d+(?=\.|$)/g, "$1*");
    const { calls = 0, totalMs = 0, selfMs = 0, flops = 0 } = rows.get(path) ?? {};
    rows.set(path, {
      path,
      type: m.type,
      calls: calls + m.calls,
      totalMs: totalMs + m.totalMs,
      selfMs: selfMs + m.selfMs,
      flops: flops + m.flops,
    });
  }
  return rows;
}

/** The first two columns to the left, numbers to the right. */
function columns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((r) => r[i]!.length)));
  const line = (r: readonly string[]) => r.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  return rows.map((r) => line(r).trimEnd()).join("\n");
}
