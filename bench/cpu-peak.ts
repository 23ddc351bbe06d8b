// What one core can do at most through 128-bit WebAssembly: independent multiply-add chains.
import { type Code, i32, type Local, Module, v128 } from "../packages/tensor/src/wasm/encoder.ts";
import { probeWasm } from "../packages/tensor/src/wasm/features.ts";
import { wasm } from "../packages/tensor/src/wasm/webassembly.ts";

const iterations = 500_000;
const clock = new Int32Array(new SharedArrayBuffer(4));

/** Processor time of this process so far, in milliseconds: unlike the wall clock it does not count waiting for a busy core. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** GFLOP/s of one run of the loop by processor time, fused or as multiplication and addition. */
export function peakMeter(fma: boolean): () => number {
  const module = new Module(false);
  const c = module.func("spin", [i32]);
  const operations = fma ? fusedLoop(c) : unfusedLoop(c, probeWasm().reorders);
  const memory = new wasm!.Memory({ initial: 1, maximum: 65_536, shared: false });
  const { spin } = new wasm!.Instance(new wasm!.Module(module.build()), { env: { memory } }).exports;
  return () => {
    // Workers of the kernel before look for work for about a millisecond, which would count as time of this process.
    Atomics.wait(clock, 0, 0, 3);
    const start = processorMs();
    spin!(iterations);
    return (2 * 4 * operations * iterations) / (processorMs() - start) / 1e6;
  };
}

/** Ends the loop, and stores the sums so that nothing is optimised away. */
function close(c: Code, sums: readonly Local[]): void {
  c.get(0).int(1).op("i32.sub").tee(0).branchIf(0).end();
  for (const [i, sum] of sums.entries())
    c.int(16 * i)
      .get(sum)
      .memory("v128.store");
}

/** Twelve independent chains in registers; returns the multiply-adds of a turn. */
function fusedLoop(c: Code): number {
  const sums = c.locals(v128, 12);
  const [x, y] = [c.local(v128), c.local(v128)];
  c.floats(1.0000001).set(x).floats(1e-9).set(y).loop();
  for (const sum of sums) c.get(x).get(y).get(sum).op("f32x4.relaxed_madd").set(sum);
  close(c, sums);
  return sums.length;
}

/**
 * Ten sums of products of two registers with five vectors from the first-level cache, four times: products of registers alone would be
 * moved out of the loop, and only additions measured. `pinned` holds V8 11's operations in this order, as the micro kernel does.
 */
function unfusedLoop(c: Code, pinned: boolean): number {
  const sums = c.locals(v128, 10);
  const [x, y, column, p, q] = c.locals(v128, 5) as [Local, Local, Local, Local, Local];
  const after = (value: Local, earlier: Local) => (pinned ? c.get(value).get(earlier).shuffle(0, 1, 2, 3) : c.get(value));
  c.floats(1.0000001).set(x).floats(0.9999999).set(y).loop();
  for (let turn = 0; turn < 4; turn++) {
    for (let i = 0; i < sums.length; i += 2) {
      const [s, t] = [sums[i]!, sums[i + 1]!];
      c.int(1024).memory("v128.load", 8 * i);
      if (turn + i > 0 && pinned) c.get(sums.at(i - 1)!).shuffle(0, 1, 2, 3);
      c.set(column).get(x).get(column).op("f32x4.mul").set(p).get(y).get(column).op("f32x4.mul").set(q);
      after(s, q).get(p).op("f32x4.add").set(s);
      after(t, s).get(q).op("f32x4.add").set(t);
    }
  }
  close(c, sums);
  return 4 * sums.length;
}
