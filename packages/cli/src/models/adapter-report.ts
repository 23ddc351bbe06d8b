// What of an adapter file a model uses, told to the user.
import type { LoraCoverage } from "@wick/nn";
import type { Reporter } from "../reporter.ts";

/** Says what an adapter changes, and warns of what of it is not used. */
export function reportAdapter(reporter: Reporter, path: string, coverage: LoraCoverage): void {
  const { targets, otherNetworks, unmatched, unsupported } = coverage;
  reporter.note(`${path}: changes ${targets.length} ${targets.length === 1 ? "weight" : "weights"}`);
  const lost = [
    [otherNetworks, "for text encoders"],
    [unmatched, "that this model has no place for"],
    [unsupported, "of kinds that are not read (DoRA, LoHa, LoKr)"],
  ] as const;
  const parts = lost.filter(([names]) => names.length > 0).map(([names, why]) => `${names.length} ${why}: ${shortList(names)}`);
  if (parts.length > 0) reporter.warn(`${path}: tensors are left out, ${parts.join("; ")}`);
}

const shortList = (names: readonly string[]): string => `${names.slice(0, 2).join(", ")}${names.length > 2 ? ", …" : ""}`;
