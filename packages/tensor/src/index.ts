// @wick/tensor: numbers on a device.
export type { Backend, Capabilities, Float32MatmulPrecision, MemoryReport, OpTiming } from "./backends/backend.ts";
export { type DryRun, dryRun } from "./backends/dry.ts";
export type { AttentionVariantName } from "./backends/webgpu/kernels/attention-variants.ts";
export type { GemmVariantName } from "./backends/webgpu/kernels/gemm-variants.ts";
export type { WebGpuEntry, WebGpuOptions } from "./backends/webgpu/options.ts";
export type { Tier } from "./backends/webgpu/tier.ts";
export type { Measurement, TunerOptions, TunerReport } from "./backends/webgpu/tuner.ts";
export type { AttentionClass, ProductClass, TunedAttention, TunedVariants, Tuning } from "./backends/webgpu/tuning.ts";
export { cpu } from "./cpu.ts";
export { Device, type RandomSource, type TensorOptions } from "./device.ts";
export * from "./dtype.ts";
export type { FlatNumbers, HostArray, NumberData, NumberList } from "./encode.ts";
export * from "./errors.ts";
export type { Layout } from "./layout.ts";
export { ConversionThreads } from "./loaders/conversion-threads.ts";
export { type ConvertOptions, canConvert, convertPieces, streamAs } from "./loaders/convert.ts";
export type { ScaledF8Options } from "./loaders/f8-scaled.ts";
export { type GgufValue, openGguf } from "./loaders/gguf.ts";
export type { GgufMetadata, TypedGgufValue } from "./loaders/gguf-header.ts";
export { type HttpOptions, httpSource } from "./loaders/http-source.ts";
export { invert, type NameRules, type Recipe, type RowRange, type Trace, traceName } from "./loaders/name-rules.ts";
export { openNpy, openNpz } from "./loaders/npy.ts";
export { type OpenOptions, openWeights, type WeightFile } from "./loaders/open.ts";
export { openPth, type PthOptions } from "./loaders/pth.ts";
export {
  type Dialect,
  detectDialect,
  type NameFamily,
  type RemapOptions,
  remap,
  renameAll,
  stripPrefix,
  translate,
} from "./loaders/remap.ts";
export { openSafetensors, openSafetensorsIndex, readShardIndex } from "./loaders/safetensors.ts";
export { type ByteSink, memorySink, writeFileAtomically } from "./loaders/sink.ts";
export { type ByteSource, blobSource, fileSource, memorySource, SourceError } from "./loaders/source.ts";
export { type NamedTensors, readTensors, saveTensors, type TensorFileFormat } from "./loaders/tensor-files.ts";
export {
  entryOf,
  readTensorBytes,
  type StreamOptions,
  streamSlice,
  type WeightEntry,
  type WeightSource,
} from "./loaders/weight-source.ts";
export { type WritableTensor, writableTensors, writeGguf, writeNpz, writeSafetensors } from "./loaders/write.ts";
export { qkNormRope, scaledDotProductAttention } from "./ops/attention.ts";
export type { ConvOptions, ConvTransposeOptions, Pair, PoolOptions } from "./ops/conv.ts";
export type { CloseOptions } from "./ops/derived.ts";
export { einsum } from "./ops/einsum.ts";
export { chainEpilogues, type Epilogue, epilogue, type Value } from "./ops/epilogue.ts";
export type { AttentionOptions, NormOptions, QkNormRopeOptions, QkStream } from "./ops/fused-options.ts";
export type { Sorted } from "./ops/gather.ts";
export type { GridSampleOptions } from "./ops/grid-sample.ts";
export { cat, meshgrid, type PadOptions, stack } from "./ops/join.ts";
export type { Dims, ReduceOptions } from "./ops/reduce.ts";
export type { ResampleOptions } from "./ops/resample.ts";
export type { IndexSpec } from "./ops/view-index.ts";
export type { Sizes } from "./ops/views.ts";
export type { PrintOptions } from "./print.ts";
export { chromeTrace, type OpSummary, summarizeProfile } from "./profile-report.ts";
export { dequantizeInto } from "./quant/decode.ts";
export { quantizeInto, quantizePlain } from "./quant/encode.ts";
export { type RandomArray, type RandomDType, TorchCpuGenerator, type TorchCpuStream, torchCpu } from "./random/torch-cpu.ts";
export { type CudaCard, type CudaRandomDType, TorchCudaGenerator, torchCuda } from "./random/torch-cuda.ts";
export { fold, foldAsync, type Held, hold, scope, tensorsIn } from "./scope.ts";
export type { Shape, Tuple } from "./shape.ts";
export { sizeOf } from "./shape.ts";
export { leakedTensors, type Stage, Tensor } from "./tensor.ts";
export type { DeviceBuffer, View } from "./view.ts";
export { tuneWebgpu, webgpu } from "./webgpu.ts";
