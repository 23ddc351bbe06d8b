// Reductions within a workgroup: every thread gets the result. With one thread per row they are the identity.

/** `fn all_add(lid, v)` and `fn all_max(lid, v)` over `threads` threads. */
export function workgroupReductions(threads: number): string {
  if (threads === 1) return "fn all_add(lid: u32, v: f32) -> f32 { return v; }\nfn all_max(lid: u32, v: f32) -> f32 { return v; }\n";
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
${tree("all_add", "shared_f32[lid] + shared_f32[lid + s]")}${tree("all_max", "f_max(shared_f32[lid], shared_f32[lid + s])")}`;
}
