// The values of --preview, apart from the code that draws.

/** auto: in terminals, when it costs little. */
export const previewKinds = ["auto", "off", "blocks", "inline"] as const;

/** One of `previewKinds`. */
export type PreviewKind = (typeof previewKinds)[number];

/** What --preview comes to: pictures of characters are nothing but colour, so NO_COLOR (no-color.org) turns them off unless they are asked for. */
export const previewFor = (kind: PreviewKind, env: NodeJS.ProcessEnv): PreviewKind => (kind === "auto" && env["NO_COLOR"] ? "off" : kind);
