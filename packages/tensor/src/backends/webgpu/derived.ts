// Words that kernels derive from the contents of a buffer, such as its largest magnitude, kept until something is written into it: weights never
// change, and reading them once more for every product would cost as much memory traffic as the product itself.
import type { Derived, DerivedOfStore } from "./store.ts";
import { GpuBuffer, type Store } from "./store.ts";

/** Room for the words of one fact. */
export const derivedBytes = 256;
/** Facts of one store that are kept: a program may multiply ever new slices of one tensor. */
const maxKept = 64;

/** Finds what is known of a store's present contents, and reuses the memory of what is no longer true. */
export class DerivedWords {
  private readonly create: () => Store;
  private readonly free: GpuBuffer[] = [];

  constructor(create: () => Store) {
    this.create = create;
  }

  /** The words `key` of a store as it is now; to be computed where they are not known. */
  of(store: Store, key: string): Derived {
    const { byKey } = this.current(store);
    let derived = byKey.get(key);
    if (!derived) {
      derived = { buffer: this.free.pop() ?? new GpuBuffer(derivedBytes, "derived", this.create()), isKnown: false };
      byKey.set(key, derived);
    }
    return derived;
  }

  private current(store: Store): DerivedOfStore {
    const { derived, version } = store;
    if (derived?.version === version && derived.byKey.size < maxKept) return derived;
    // Recorded users of outdated words run before anything that is written there from now on. What is merely too much is not reused: the call at hand
    // may be about to use it.
    if (derived && derived.version !== version) for (const { buffer } of derived.byKey.values()) this.free.push(buffer);
    return (store.derived = { version, byKey: new Map() });
  }
}
