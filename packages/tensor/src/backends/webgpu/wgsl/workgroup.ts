// Reductions within a workgroup: every thread gets the result. With one thread per row they are the identity. A maximum may leave NaN out.

/** `fn all_add(lid, v)` and `fn all_max(lid, v)` over `threads` threads, the `lanes` of a subgroup by shuffles (0: no subgroups). */
export function workgroupReductions(threads: number, lanes = 0): string {
  if (threads === 1) return "fn all_add(lid: u32, v: f32) -> f32 { return v; }\nfn all_max(lid: u32, v: f32) -> f32 { return v; }\n";
  if (lanes > 0) return subgroupReductions(threads, lanes);
  const tree = (name: string, merge: string): string => `fn ${name}(lid: u32, v: f32) -> f32 {
  workgroupBarrier();
  shared_f32[lid] = v;
  workgroupBarrier();
  for (var s = ${threads / 2}u; s > 0u; s = s >> 1u) {
    if (lid < s) { shared_f32[lid] = ${merge}; }
    workgroupBarrier();
  }
  return shared_f32[0];
}
`;
  return `var<workgroup> shared_f32: array<f32, ${threads}>;
${tree("all_add", "shared_f32[lid] + shared_f32[lid + s]")}${tree("all_max", "max(shared_f32[lid], shared_f32[lid + s])")}`;
}

/** Shuffles add in the same order every time; the results of several subgroups meet in workgroup memory. */
function subgroupReductions(threads: number, lanes: number): string {
  const groups = threads / lanes;
  const one = (name: string, merge: (a: string, b: string) => string): string => `fn ${name}(lid: u32, v: f32) -> f32 {
  var r = v;
  for (var d = 1u; d < ${lanes}u; d = d << 1u) { r = ${merge("r", "subgroupShuffleXor(r, d)")}; }
${groups === 1 ? "  return r;" : shareText(groups, merge)}
}
`;
  const memory = `var<workgroup> shared_f32: array<f32, ${groups}>;\nvar<private> my_group: u32;\nvar<private> my_lane: u32;\n`;
  return `${groups > 1 ? memory : ""}${one("all_add", (a, b) => `${a} + ${b}`)}${one("all_max", (a, b) => `max(${a}, ${b})`)}`;
}

const shareText = (groups: number, merge: (a: string, b: string) => string): string => `  workgroupBarrier();
  if (my_lane == 0u) { shared_f32[my_group] = r; }
  workgroupBarrier();
  r = shared_f32[0];
  for (var g = 1u; g < ${groups}u; g++) { r = ${merge("r", "shared_f32[g]")}; }
  return r;`;
