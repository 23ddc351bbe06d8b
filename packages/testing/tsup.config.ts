import { defineConfig } from "tsup";
import { library } from "../../tsup.base.ts";

export default defineConfig({
  ...library,
  entry: [
    "src/index.ts",
    "src/gpu-parity.ts",
    "src/memory-weights.ts",
    "src/mock-hub.ts",
    "src/inventory.ts",
    "src/module-golden.ts",
    "src/module-parity.ts",
    "src/released-configs.ts",
    "src/released-tokenizers.ts",
  ],
});
