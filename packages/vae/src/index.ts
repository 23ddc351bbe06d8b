// @wick/vae: image autoencoders.
export * from "./autoencoder-kl.ts";
export * from "./names.ts";
