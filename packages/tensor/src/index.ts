export type { Backend, Capabilities, DeviceBuffer, MemoryReport, OpTiming, View } from "./backends/backend.ts";
export * from "./dtype.ts";
export * from "./errors.ts";
export { dequantizeInto } from "./quant/decode.ts";
export type { Shape, Tuple } from "./shape.ts";
