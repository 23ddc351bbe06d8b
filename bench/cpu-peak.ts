// What one core can do at most through 128-bit WebAssembly: twelve independent multiply-add chains that never leave registers.
import { i32, Module, v128 } from "../packages/tensor/src/backends/cpu/wasm/encoder.ts";
import { wasm } from "../packages/tensor/src/backends/cpu/wasm/webassembly.ts";

const chains = 12;
const iterations = 1_000_000;

/** Processor time of this process so far, in milliseconds: unlike the wall clock it does not count waiting for a busy core. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** GFLOP/s of one run of the chains by processor time, fused or as multiplication and addition. */
export function peakMeter(fma: boolean): () => number {
  const module = new Module(false);
  const c = module.func("spin", [i32]);
  const sums = c.locals(v128, chains);
  const [x, y] = [c.local(v128), c.local(v128)];
  c.floats(1.0000001).set(x).floats(1e-9).set(y).loop();
  for (const sum of sums) {
    if (fma) c.get(x).get(y).get(sum).op("f32x4.relaxed_madd").set(sum);
    else c.get(x).get(y).op("f32x4.mul").get(sum).op("f32x4.add").set(sum);
  }
  c.get(0).int(1).op("i32.sub").tee(0).branchIf(0).end();
  // Storing the sums keeps the chains from being optimised away.
  for (const [i, sum] of sums.entries())
    c.int(16 * i)
      .get(sum)
      .memory("v128.store");
  const memory = new wasm!.Memory({ initial: 1, maximum: 65_536, shared: false });
  const { spin } = new wasm!.Instance(new wasm!.Module(module.build()), { env: { memory } }).exports;
  return () => {
    const start = processorMs();
    spin!(iterations);
    return (2 * 4 * chains * iterations) / (processorMs() - start) / 1e6;
  };
}
