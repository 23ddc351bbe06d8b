// Launch plans: the first call of a kernel with given shapes runs the kernel's own code (choice of variant, splitting, program keys) and remembers
// the dispatches it recorded; later calls replay them on their own buffers. A forward pass repeats the same few calls thousands of times.
// Kernels must therefore decide from layouts, dtypes, attributes and the device's traits alone, never from buffers or counters.
import type { Kernel, KernelTable, OpName } from "../../ops/table.ts";
import type { Binding, Launch } from "./encoder.ts";
import { LaunchSignature } from "./launch-signature.ts";
import type { Derived, GpuBuffer, Store } from "./store.ts";

/** What a call did, with operands and scratch memory by number. */
type Step =
  | LaunchStep
  | { readonly kind: "scratch"; readonly slot: number; readonly byteLength: number; readonly label: string }
  | { readonly kind: "drop"; readonly slot: number }
  /** Words derived from the operand in slot `of`, and the launches that compute them. */
  | { readonly kind: "derived"; readonly slot: number; readonly of: number; readonly key: string; readonly steps: readonly LaunchStep[] };

interface LaunchStep {
  readonly kind: "launch";
  readonly launch: Launch;
  readonly slots: readonly number[];
}

interface Plan {
  readonly signature: Float64Array;
  readonly steps: readonly Step[];
  /** Another plan with the same hash. */
  readonly next: Plan | undefined;
}

/** What plans need from the backend. */
export interface LaunchHost {
  checkAlive(op: string): void;
  run(launch: Launch, stores: readonly Store[]): void;
  scratch(byteLength: number, label: string): GpuBuffer;
  drop(buffer: GpuBuffer): void;
  derived(store: Store, key: string): Derived;
}

const maxPlans = 8192;

/** Remembers and replays kernel calls; `launched`, `scratched` and `dropped` listen to the call being remembered. */
export class LaunchPlans {
  private readonly host: LaunchHost;
  private readonly plans = new Map<number, Plan>();
  private readonly signature = new LaunchSignature();
  private readonly picked: Store[] = [];
  private recording: Recording | undefined;
  private count = 0;

  constructor(host: LaunchHost) {
    this.host = host;
  }

  /** The same kernels, remembering. */
  wrap(kernels: KernelTable): KernelTable {
    const wrapped = Object.entries(kernels).map(([op, kernel], i) => [op, this.remembering(op as OpName, i, kernel as Kernel<OpName>)]);
    return Object.fromEntries(wrapped) as KernelTable;
  }

  private remembering(op: OpName, number: number, kernel: Kernel<OpName>): Kernel<OpName> {
    return (out, inputs, attrs) => {
      this.host.checkAlive(op);
      const { signature } = this;
      signature.describe(number, out, inputs, attrs);
      const hash = signature.hash();
      for (let plan = this.plans.get(hash); plan; plan = plan.next) {
        if (signature.equals(plan.signature)) {
          this.replay(plan, signature.stores);
          return;
        }
      }
      this.record(hash, () => kernel(out, inputs, attrs));
    };
  }

  private record(hash: number, call: () => void): void {
    const { signature } = this;
    const numbers = signature.complete ? signature.numbers.slice(0, signature.length) : undefined;
    const recording = new Recording(signature.stores.slice(0, signature.storeCount));
    this.recording = recording;
    try {
      call();
    } catch (error) {
      for (const buffer of recording.held) this.host.drop(buffer);
      throw error;
    } finally {
      this.recording = undefined;
    }
    if (!numbers || !recording.repeatable) return;
    if (this.count++ >= maxPlans) this.forget();
    this.plans.set(hash, { signature: numbers, steps: recording.steps, next: this.plans.get(hash) });
  }

  /** `stores` holds the operands' stores; scratch memory is added behind them. */
  private replay({ steps }: Plan, stores: Store[]): void {
    let held: (GpuBuffer | undefined)[] = none;
    try {
      for (const step of steps) {
        if (step.kind === "launch") this.host.run(step.launch, this.pick(stores, step.slots));
        else if (step.kind === "scratch") {
          const buffer = this.host.scratch(step.byteLength, step.label);
          if (held === none) held = [];
          held[step.slot] = buffer;
          stores[step.slot] = buffer.store!;
        } else if (step.kind === "derived") this.replayDerived(step, stores);
        else {
          this.host.drop(held[step.slot]!);
          held[step.slot] = undefined;
        }
      }
    } catch (error) {
      for (const buffer of held) if (buffer) this.host.drop(buffer);
      throw error;
    }
  }

  private replayDerived({ of, key, slot, steps }: Extract<Step, { kind: "derived" }>, stores: Store[]): void {
    const derived = this.host.derived(stores[of]!, key);
    stores[slot] = derived.buffer.store!;
    if (derived.isKnown) return;
    for (const { launch, slots } of steps) this.host.run(launch, this.pick(stores, slots));
    derived.isKnown = true;
  }

  /**
   * What a kernel derives from an operand's contents. While a call is remembered it is computed even where it is known, because later calls on other
   * operands will need the launches.
   */
  derive(of: Store, key: string, compute: (memory: GpuBuffer) => void): GpuBuffer {
    const derived = this.host.derived(of, key);
    if (derived.isKnown && (!this.recording || this.recording.has(derived.buffer))) return derived.buffer;
    derived.isKnown = false;
    const done = this.recording?.deriving(of, key, derived.buffer);
    compute(derived.buffer);
    done?.();
    derived.isKnown = true;
    return derived.buffer;
  }

  /** The stores in `slots`, valid until the next call: nobody keeps them. */
  private pick(stores: readonly Store[], slots: readonly number[]): readonly Store[] {
    const { picked } = this;
    picked.length = slots.length;
    for (let i = 0; i < slots.length; i++) picked[i] = stores[slots[i]!]!;
    return picked;
  }

  /** Drops all plans: needed when kernels would decide differently from now on. */
  forget(): void {
    this.plans.clear();
    this.count = 0;
  }

  launched(launch: Launch, bindings: readonly Binding[]): void {
    this.recording?.launched(launch, bindings);
  }
  scratched(buffer: GpuBuffer): GpuBuffer {
    this.recording?.scratched(buffer);
    return buffer;
  }
  dropped(buffer: GpuBuffer): void {
    this.recording?.dropped(buffer);
  }
}

const none: (GpuBuffer | undefined)[] = [];

/** One call while it is remembered. */
class Recording {
  readonly steps: Step[] = [];
  /** False when the call used memory that is neither an operand nor its own. */
  repeatable = true;
  private readonly slotOfStore: Map<Store, number>;
  private readonly slotOfScratch = new Map<GpuBuffer, number>();
  private slots: number;
  /** Where launches go: the call's steps, or those of what is being derived. */
  private into: Step[] = this.steps;

  constructor(operands: readonly Store[]) {
    this.slotOfStore = new Map(operands.map((s, i) => [s, i]));
    this.slots = operands.length;
  }

  launched(launch: Launch, bindings: readonly Binding[]): void {
    const slots = bindings.map((b) => this.slotOfStore.get(b.store) ?? -1);
    if (slots.includes(-1)) this.repeatable = false;
    this.into.push({ kind: "launch", launch, slots });
  }

  /** Whether this call has derived these words already. */
  has({ store }: GpuBuffer): boolean {
    return this.slotOfStore.has(store!);
  }

  /** Launches belong to the derived words until the returned function is called. */
  deriving(of: Store, key: string, { store }: GpuBuffer): () => void {
    const slot = this.slots++;
    const owner = this.slotOfStore.get(of);
    if (owner === undefined) this.repeatable = false;
    this.slotOfStore.set(store!, slot);
    const steps: LaunchStep[] = [];
    this.steps.push({ kind: "derived", slot, of: owner ?? -1, key, steps });
    this.into = steps as Step[];
    return () => {
      this.into = this.steps;
    };
  }

  /** Scratch memory not dropped yet. */
  get held(): Iterable<GpuBuffer> {
    return this.slotOfScratch.keys();
  }

  scratched(buffer: GpuBuffer): void {
    const slot = this.slots++;
    if (this.into !== this.steps) this.repeatable = false;
    this.slotOfStore.set(buffer.store!, slot);
    this.slotOfScratch.set(buffer, slot);
    this.steps.push({ kind: "scratch", slot, byteLength: buffer.byteLength, label: buffer.label });
  }

  dropped(buffer: GpuBuffer): void {
    const slot = this.slotOfScratch.get(buffer);
    if (slot === undefined) this.repeatable = false;
    else this.steps.push({ kind: "drop", slot });
    this.slotOfScratch.delete(buffer);
  }
}
