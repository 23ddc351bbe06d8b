// The two precisions on a driver with subgroup matrices of f16 (tools/matrix-driver.sh), and that others have one.
import { expect, it } from "vitest";
import { createWebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import { errorsOf, exact, rounded } from "./precision.ts";

it('f32 operands are rounded to 11 bits on f16 fragments at "high", and never elsewhere', { timeout: 600_000 }, async () => {
  const probe = await createWebGpuBackend();
  const { offeredTier, matrix } = probe.capabilities;
  probe.destroy();
  const rounds = offeredTier === "matrix" && matrix?.input === "f16";
  // One row where nothing is rounded: products there are tested elsewhere.
  const subjects = rounds ? { ...rounded, ...exact } : { "f32 x bf16": rounded["f32 x bf16"]! };
  const options: WebGpuOptions = { tier: offeredTier };
  for (const [name, subject] of Object.entries(subjects)) {
    const { highest, high } = await errorsOf(subject, options);
    expect(highest, name).toBeLessThan(2e-6);
    if (rounds && name in rounded) {
      expect(high, name).toBeGreaterThan(1e-4);
      expect(high, name).toBeLessThan(1e-3);
    } else expect(high, name).toBe(highest);
  }
});
