// Finding the examples of a Markdown file.
import { describe, expect, it } from "vitest";
import { blockFileName, blockModule, readmeBlocks } from "../readme-blocks.ts";

const markdown = [
  "# Title",
  "```ts",
  "const a = 1;",
  "```",
  "```sh",
  "```ts is not a fence here",
  "```",
  "```ts no-run",
  "b();",
  "",
  "c();",
  "```",
].join("\n");

describe("readmeBlocks", () => {
  it("finds ts blocks with their lines and skips other languages", () => {
    expect(readmeBlocks("README.md", markdown)).toEqual([
      { path: "README.md", line: 3, run: true, code: "const a = 1;" },
      { path: "README.md", line: 9, run: false, code: "b();\n\nc();" },
    ]);
  });

  it("refuses unknown words and open fences", () => {
    expect(() => readmeBlocks("a.md", "```ts norun\n```")).toThrowErrorMatchingInlineSnapshot(
      `[Error: a.md:1: unknown word after ts: norun; only no-run is known]`,
    );
    expect(() => readmeBlocks("a.md", "x\n```ts\nlet")).toThrowErrorMatchingInlineSnapshot(`[Error: a.md:2: the code fence is not closed]`);
  });
});

describe("blockModule", () => {
  it("keeps the line numbers of the Markdown file", () => {
    const [, second] = readmeBlocks("packages/nn/README.md", markdown);
    if (!second) throw new Error("the second block is missing");
    expect(blockModule(second).split("\n")[8]).toBe("b();");
    expect(blockFileName(second)).toBe("packages-nn-README-9.ts");
  });
});
