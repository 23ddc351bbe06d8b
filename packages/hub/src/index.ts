// Where a model's bytes come from: Hugging Face repositories and local files, as byte sources. No tensors.
export type { ByteSource } from "./byte-source.ts";
export * from "./errors.ts";
export { hubDefaults, huggingFace, localFolder, modelFiles } from "./hugging-face.ts";
export type { ByteProgress, FileEntry, ModelFiles, OpenOptions, ReadOptions } from "./model-files.ts";
export { cacheName } from "./remote/chunk-store.ts";
export type { HubDefaults, HubOptions } from "./settings.ts";
export { type UrlFilesOptions, urlFiles } from "./url-files.ts";
