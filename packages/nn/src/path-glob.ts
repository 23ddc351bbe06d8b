// Patterns over dotted paths: `*` stands for anything within one name, `**` for any number of names (also none).

const escapePattern = (text: string): string => text.replace(/[\\^$.|?+()[\]{}]/g, "\\$&");

function segmentPattern(segment: string): string {
  return segment.split("*").map(escapePattern).join("[^.]*");
}

/** True for the paths that `glob` describes: "double_blocks.*.img_attn", "layers.3.**" (layer 3 and all inside), "**.qkv". */
export function pathMatcher(glob: string): (path: string) => boolean {
  const segments = glob.split(".");
  let pattern = "";
  for (const [i, segment] of segments.entries()) {
    const last = i === segments.length - 1;
    if (segment === "**") pattern += last ? (i === 0 ? ".*" : "(?:\\..*)?") : i === 0 ? "(?:.*\\.)?" : "\\.(?:.*\\.)?";
    else pattern += (i > 0 && segments[i - 1] !== "**" ? "\\." : "") + segmentPattern(segment);
  }
  const re = new RegExp(`^${pattern}$`);
  return (path) => re.test(path);
}

/** True for paths that any of the globs describes. */
export function anyGlob(globs: readonly string[]): (path: string) => boolean {
  const matchers = globs.map(pathMatcher);
  return (path) => matchers.some((m) => m(path));
}
