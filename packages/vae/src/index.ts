// @wick/vae: image autoencoders.
export * from "./autoencoder-kl.ts";
export * from "./config-json.ts";
export * from "./names.ts";
