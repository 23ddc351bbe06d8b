// Runs the invocations of a dispatch: those of a subgroup meet at subgroup operations, those of a workgroup at barriers. Invocations that wait at
// different places are an error, as control flow must be uniform there.
import type { Kernel, Site } from "./compile.ts";
import { type Actor, Memory } from "./memory.ts";
import { runtime } from "./runtime.ts";
import { bytesOfScalar, bytesOfType, type Type, typeOf } from "./types.ts";
import type { Fragment } from "./values.ts";

/** A request at a site: its index, then the operation's arguments. */
type Request = readonly [number, ...unknown[]];
type Run = Generator<Request, void, unknown>;

interface Invocation {
  readonly id: number;
  readonly collective: false;
  readonly args: readonly unknown[];
  run?: Run;
  request: Request | undefined;
  answer: unknown;
}

export interface Launch {
  readonly kernel: Kernel;
  /** Memories of the storage variables by name. */
  readonly storage: ReadonlyMap<string, Memory>;
  readonly params: Readonly<Record<string, number>>;
  readonly grid: readonly [number, number, number];
  readonly subgroupSize: number;
}

interface Program {
  main(invocation: Invocation, ...args: unknown[]): Run | undefined;
  start(invocation: Invocation): void;
}

/** Runs all workgroups, one after the other; throws an Error that names the line of what went wrong. */
export function runDispatch(launch: Launch): void {
  const { kernel, storage, params, grid } = launch;
  const local: Memory[] = [];
  const memories = kernel.variables.map((v) => {
    const given = storage.get(v.name);
    if (given) return given;
    const bytes = bytesOfType(typeOf(v.type));
    local.push(new Memory(v.name, new ArrayBuffer(Math.ceil(bytes / 4) * 4), 0, bytes, "workgroup"));
    return local.at(-1)!;
  });
  const program = new Function("R", "memories", "params", kernel.code)(runtime, memories, params) as Program;
  const threads = kernel.entry.workgroup!.reduce((a, b) => a * b, 1);
  const groups = Math.ceil(threads / launch.subgroupSize);
  for (let z = 0; z < grid[2]; z++)
    for (let y = 0; y < grid[1]; y++)
      for (let x = 0; x < grid[0]; x++) {
        for (const m of local) m.forget();
        const first = (x + grid[0] * (y + grid[1] * z)) * (threads + groups);
        new Workgroup(launch, program, local, [x, y, z], first, threads).run();
      }
}

class Workgroup {
  private readonly launch: Launch;
  private readonly sites: readonly Site[];
  private readonly local: readonly Memory[];
  private readonly invocations: Invocation[];
  private readonly groups: readonly (readonly Invocation[])[];
  private readonly program: Program;
  private readonly first: number;

  constructor(launch: Launch, program: Program, local: readonly Memory[], wid: readonly number[], first: number, threads: number) {
    this.launch = launch;
    this.sites = launch.kernel.sites;
    this.local = local;
    this.program = program;
    this.first = first;
    const { subgroupSize: lanes, kernel, grid } = launch;
    const builtin = (name: string, t: number): unknown => {
      const known: Record<string, unknown> = {
        local_invocation_index: t,
        local_invocation_id: [t, 0, 0],
        workgroup_id: wid,
        num_workgroups: grid,
        global_invocation_id: [wid[0]! * threads + t, wid[1], wid[2]],
        subgroup_id: Math.floor(t / lanes),
        subgroup_invocation_id: t % lanes,
        subgroup_size: lanes,
      };
      if (!(name in known)) throw new Error(`wgsl: unknown builtin ${name}`);
      return known[name];
    };
    this.invocations = Array.from({ length: threads }, (_, t) => {
      const args = kernel.entry.params.map((p) => builtin(p.builtin!, t));
      return { id: first + t, collective: false, args, request: undefined, answer: undefined };
    });
    const groups = Math.ceil(threads / lanes);
    this.groups = Array.from({ length: groups }, (_, g) => this.invocations.slice(g * lanes, (g + 1) * lanes));
  }

  run(): void {
    for (const i of this.invocations) {
      this.program.start(i);
      const run = this.program.main(i, ...i.args);
      if (run) i.run = run;
    }
    if (!this.launch.kernel.meets) return;
    do {
      this.groups.forEach((group, g) => {
        this.advance(group, g);
      });
    } while (this.barrier());
  }

  /** Runs a subgroup until it waits at a barrier or has ended. */
  private advance(group: readonly Invocation[], g: number): void {
    for (;;) {
      for (const i of group) {
        if (!i.run) continue;
        const { done, value } = i.run.next(i.answer);
        i.request = done ? undefined : (value as Request);
        if (done) delete i.run;
      }
      const site = this.together(group, "subgroup");
      if (site === undefined || /Barrier|UniformLoad/.test(this.sites[site]!.op)) return;
      this.collective(site, group, g);
    }
  }

  /** The site where all invocations wait; undefined when all have ended. */
  private together(all: readonly Invocation[], what: string): number | undefined {
    const at = all[0]!.request?.[0];
    const other = all.find((i) => i.request?.[0] !== at);
    if (!other) return at;
    const place = (i: Invocation): string => (i.request ? this.place(i.request[0]) : "the end");
    throw new Error(`invocations of one ${what} wait at ${place(all[0]!)} and ${place(other)}`);
  }

  private place = (site: number): string => `${this.sites[site]!.op} in line ${this.sites[site]!.line}`;

  /** Lets everybody pass a barrier; false when all have ended. */
  private barrier(): boolean {
    const site = this.together(this.invocations, "workgroup");
    if (site === undefined) return false;
    const { op, type } = this.sites[site]!;
    for (const m of this.local) m.advance();
    if (op === "workgroupUniformLoad") {
      const [, memory, at] = this.invocations[0]!.request as unknown as [number, Memory, number];
      const value = memory[(type as { of: "u32" }).of](this.invocations[0]!, at);
      for (const i of this.invocations) i.answer = value;
      for (const m of this.local) m.advance();
    } else for (const i of this.invocations) i.answer = undefined;
    return true;
  }

  private collective(site: number, group: readonly Invocation[], g: number): void {
    const { op, type, order } = this.sites[site]!;
    const lanes = group.map((i) => i.request!);
    if (op.startsWith("subgroupMatrix")) {
      this.uniform(lanes, site);
      const actor = { id: this.first + this.invocations.length + g, collective: true };
      const [, ...args] = lanes[0]!;
      let answer: unknown;
      if (op === "subgroupMatrixLoad") answer = loadFragment(actor, type as Fragment["type"], order!, args as [Memory, number, number]);
      else if (op === "subgroupMatrixStore") storeFragment(actor, order!, args as [Memory, number, number, Fragment]);
      else if (op === "subgroupMatrixMultiplyAccumulate") answer = multiplyAdd(...(args as [Fragment, Fragment, Fragment]));
      else if (op === "subgroupMatrixScalarMultiply") answer = scaled(...(args as [Fragment, number]));
      else throw new Error(`wgsl: ${op} is not known to the simulator`);
      for (const i of group) i.answer = answer;
      return;
    }
    group.forEach((i, lane) => {
      i.answer = shuffle(op, lanes, lane, type!);
    });
  }

  private uniform(lanes: readonly Request[], site: number): void {
    const [first] = lanes;
    for (const lane of lanes) {
      if (lane.some((x, i) => x !== first![i])) throw new Error(`arguments of ${this.place(site)} differ between the lanes of a subgroup`);
      if (lane.some((x) => x === undefined)) throw new Error(`${this.place(site)} uses a fragment that was never assigned`);
    }
  }
}

/** Vulkan's rule: rows (columns, if they lie together) start at multiples of 16 bytes or of their own size, if that is less. */
function checkAligned(at: number, stride: number, rowBytes: number, memory: Memory): void {
  const unit = Math.min(16, rowBytes);
  if (at % unit || stride % unit)
    throw new Error(`a fragment at byte ${at} of ${memory.name}, ${stride} bytes a row, is not aligned to ${unit} bytes`);
}

/** Bytes from row to row and from column to column. */
const steps = ({ of }: Fragment["type"], order: string, stride: number): [number, number] =>
  order === "row_major" ? [stride, bytesOfScalar(of)] : [bytesOfScalar(of), stride];

const lineBytes = ({ rows, columns, of }: Fragment["type"], order: string): number =>
  (order === "row_major" ? columns : rows) * bytesOfScalar(of);

function loadFragment(actor: Actor, type: Fragment["type"], order: string, [memory, at, stride]: [Memory, number, number]): Fragment {
  checkAligned(at, stride, lineBytes(type, order), memory);
  const data = new Float32Array(type.rows * type.columns);
  const [row, column] = steps(type, order, stride);
  for (let r = 0, i = 0; r < type.rows; r++)
    for (let c = 0; c < type.columns; c++, i++) {
      const byte = at + r * row + c * column;
      data[i] = type.of === "f16" ? memory.f16(actor, byte) : memory.f32(actor, byte);
    }
  return { type, data };
}

function storeFragment(actor: Actor, order: string, [memory, at, stride, { type, data }]: [Memory, number, number, Fragment]): void {
  checkAligned(at, stride, lineBytes(type, order), memory);
  const [row, column] = steps(type, order, stride);
  for (let r = 0, i = 0; r < type.rows; r++)
    for (let c = 0; c < type.columns; c++, i++) {
      const byte = at + r * row + c * column;
      if (type.of === "f16") memory.set_f16(actor, byte, data[i]!);
      else memory.set_f32(actor, byte, data[i]!);
    }
}

function multiplyAdd(a: Fragment, b: Fragment, c: Fragment): Fragment {
  const { rows, columns } = c.type;
  const inner = a.type.columns;
  if (a.type.side !== "left" || b.type.side !== "right" || c.type.side !== "result" || b.type.rows !== inner)
    throw new Error("fragments of wrong shapes are multiplied");
  const data = Float32Array.from(c.data);
  for (let r = 0; r < rows; r++)
    for (let x = 0; x < columns; x++) {
      let sum = data[r * columns + x]!;
      for (let k = 0; k < inner; k++) sum = Math.fround(sum + a.data[r * inner + k]! * b.data[k * columns + x]!);
      data[r * columns + x] = sum;
    }
  return { type: c.type, data };
}

const scaled = ({ type, data }: Fragment, by: number): Fragment => ({ type, data: data.map((v) => v * by) });

/** The result of a subgroup operation for one lane. */
function shuffle(op: string, lanes: readonly Request[], lane: number, type: Type): unknown {
  const value = (l: number): unknown => {
    const given = lanes[l];
    if (!given) throw new Error(`${op} reads lane ${l} of a subgroup of ${lanes.length}`);
    return given[1];
  };
  const by = lanes[lane]![2] as number;
  switch (op) {
    case "subgroupShuffleXor":
      return value(lane ^ by);
    case "subgroupShuffle":
    case "subgroupBroadcast":
      return value(by);
    case "subgroupAdd":
      return lanes.reduce((s, [, v]) => addTo(s as number, v as number, type), 0);
    case "subgroupMax":
      return lanes.reduce((s, [, v]) => Math.max(s, v as number), Number.NEGATIVE_INFINITY);
    default:
      throw new Error(`wgsl: ${op} is not known to the simulator`);
  }
}

const addTo = (a: number, b: number, type: Type): number => ((type as { of: string }).of === "f32" ? Math.fround(a + b) : a + b);
