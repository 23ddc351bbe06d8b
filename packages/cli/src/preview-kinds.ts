// The values of --preview, apart from the code that draws.

/** auto: in terminals, when it costs little. */
export const previewKinds = ["auto", "off", "blocks", "inline"] as const;

/** One of `previewKinds`. */
export type PreviewKind = (typeof previewKinds)[number];
