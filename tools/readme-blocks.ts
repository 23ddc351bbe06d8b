// Finds the TypeScript examples of a Markdown file. A fence opens with ```ts; "ts no-run" is type-checked but not run.

/** One example: where it stands and its code. */
export interface ReadmeBlock {
  readonly path: string;
  /** Line of the first line of code, counted from 1. */
  readonly line: number;
  readonly run: boolean;
  readonly code: string;
}

/** Every ```ts block of `markdown`, in order. Throws Error for a fence that is not closed or has a word other than no-run. */
export function readmeBlocks(path: string, markdown: string): ReadmeBlock[] {
  const blocks: ReadmeBlock[] = [];
  const lines = markdown.split(/\r?\n/);
  for (let at = 0; at < lines.length; at++) {
    const fence = /^(```+)(.*)$/.exec(lines[at] ?? "");
    if (!fence) continue;
    const [, ticks = "```", info = ""] = fence;
    const end = lines.findIndex((line, index) => index > at && line.trimEnd() === ticks);
    if (end < 0) throw new Error(`${path}:${at + 1}: the code fence is not closed`);
    const [language, ...words] = info.trim().split(/\s+/);
    const unknown = words.find((word) => word !== "no-run");
    if (language === "ts" && unknown !== undefined)
      throw new Error(`${path}:${at + 1}: unknown word after ts: ${unknown}; only no-run is known`);
    if (language === "ts") blocks.push({ path, line: at + 2, run: words.length === 0, code: lines.slice(at + 1, end).join("\n") });
    at = end;
  }
  return blocks;
}

/** The file to compile for `block`: a module, with its lines where they stand in the Markdown file so that errors point there. */
export function blockModule(block: ReadmeBlock): string {
  return `${"\n".repeat(block.line - 1)}${block.code}\nexport {};\n`;
}

/** A file name that says where the block comes from: "packages-nn-README-12.ts". */
export function blockFileName({ path, line }: ReadmeBlock): string {
  return `${path.replace(/\.md$/, "").replaceAll("/", "-")}-${line}.ts`;
}
