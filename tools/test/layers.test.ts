// The dependency rule against small made-up repositories.
import { describe, expect, it } from "vitest";
import { importsOf } from "../imports.ts";
import { type Declared, forbiddenImports, importCycles, type SourceFile } from "../layers.ts";

const file = (path: string, source: string): SourceFile => ({ path, imports: importsOf(path, source) });
const declared: Declared = {
  tensor: new Set(["fflate"]),
  nn: new Set(["@wick/tensor"]),
  vae: new Set(["@wick/nn", "@wick/encoders", "@wick/testing"]),
};
const check = (path: string, source: string) => forbiddenImports([file(path, source)], declared);

describe("importsOf", () => {
  it("tells value, type and lazy imports apart and ignores comments and strings", () => {
    const source = [
      'import { a } from "./a.ts";',
      'import type { B } from "./b.ts";',
      'export * from "./c.ts";',
      'export type { D } from "./d.ts";',
      '// import "./comment.ts";',
      "const text = 'import \"./string.ts\"';",
      'const e = await import("./e.ts");',
      'let f: import("./f.ts").F;',
      "await import(text);",
    ].join("\n");
    expect(importsOf("x.ts", source).map(({ specifier, kind, line }) => `${line} ${kind} ${specifier}`)).toEqual([
      "1 value ./a.ts",
      "2 type ./b.ts",
      "3 value ./c.ts",
      "4 type ./d.ts",
      "7 lazy ./e.ts",
      "8 type ./f.ts",
    ]);
  });
});

describe("forbiddenImports", () => {
  it("accepts a lower layer, a declared package, node: and files of the same package", () => {
    expect(check("packages/nn/src/linear.ts", 'import "@wick/tensor"; import "node:fs"; import "./module.ts";')).toEqual([]);
    expect(check("packages/tensor/src/zip.ts", 'import "fflate";')).toEqual([]);
  });

  it("refuses an equal or higher layer, in types too", () => {
    expect(check("packages/vae/src/a.ts", 'import type { X } from "@wick/encoders";')).toMatchInlineSnapshot(`
      [
        "packages/vae/src/a.ts:1: imports @wick/encoders: vae is layer 2, encoders is layer 2; an import goes to a lower layer",
      ]
    `);
    expect(check("packages/nn/test/a.test.ts", 'await import("@wick/vae");')).toHaveLength(1);
  });

  it("refuses testing outside tests, and itself by name", () => {
    expect(check("packages/vae/src/a.ts", 'import "@wick/testing";')[0]).toContain("testing is for tests only");
    expect(check("packages/vae/test/a.test.ts", 'import "@wick/testing"; import "@wick/vae";')).toEqual([]);
    expect(check("packages/vae/src/a.ts", 'import "@wick/vae";')[0]).toContain("does not import itself by name");
  });

  it("refuses what the package does not declare", () => {
    expect(check("packages/nn/src/a.ts", 'import "fflate";')[0]).toContain("not among the dependencies of packages/nn/package.json");
  });

  it("refuses a package without a layer and one that does not exist", () => {
    expect(check("packages/fresh/test/a.test.ts", 'import "@wick/tensor";')[0]).toContain("packages/fresh has no layer");
    expect(check("packages/nn/test/a.test.ts", 'import "@wick/gone";')[0]).toContain("there is no package @wick/gone");
  });

  it("refuses relative imports that leave the package or lack .ts", () => {
    expect(check("packages/nn/src/a.ts", 'import "../../tensor/src/tensor.ts";')[0]).toContain("leaves packages/nn/src/");
    expect(check("packages/nn/src/a.ts", 'import "../test/b.ts";')[0]).toContain("leaves packages/nn/src/");
    expect(check("packages/nn/test/a.test.ts", 'import "../src/b.ts";')).toEqual([]);
    expect(check("packages/nn/src/a.ts", 'import "./b";')[0]).toContain("a relative import ends in .ts");
  });

  it("keeps tensor's ops and loaders away from the backends, in types too", () => {
    expect(check("packages/tensor/src/ops/matmul.ts", 'import type { View } from "../view.ts";')).toEqual([]);
    expect(check("packages/tensor/src/ops/matmul.ts", 'import type { B } from "../backends/backend.ts";')).toMatchInlineSnapshot(`
      [
        "packages/tensor/src/ops/matmul.ts:1: imports ../backends/backend.ts: tensor's ops and loaders know no backend",
      ]
    `);
    expect(check("packages/tensor/src/loaders/gguf.ts", 'import type { C } from "../backends/cpu/index.ts";')).toHaveLength(1);
    expect(check("packages/tensor/src/backends/cpu/index.ts", 'import "../../ops/table.ts";')).toEqual([]);
  });
});

describe("importCycles", () => {
  const at = (name: string, source: string) => file(`packages/nn/src/${name}.ts`, source);

  it("finds a cycle of values through several files, once", () => {
    const files = [at("a", 'import "./b.ts";'), at("b", 'export * from "./c.ts";'), at("c", 'import "./a.ts";')];
    expect(importCycles(files)).toEqual(["packages/nn/src/a.ts -> packages/nn/src/b.ts -> packages/nn/src/c.ts -> packages/nn/src/a.ts"]);
  });

  it("finds a cycle of types, and of import()", () => {
    const files = [at("a", 'import "./b.ts";'), at("b", 'import { type A } from "./c.ts";'), at("c", 'import type { A } from "./a.ts";')];
    expect(importCycles(files)).toEqual([
      "packages/nn/src/a.ts -> packages/nn/src/b.ts -> packages/nn/src/c.ts -type-> packages/nn/src/a.ts",
    ]);
    expect(importCycles([at("x", ""), at("a", 'import "./b.ts";'), at("b", 'await import("./a.ts");')])).toEqual([
      "packages/nn/src/a.ts -> packages/nn/src/b.ts -lazy-> packages/nn/src/a.ts",
    ]);
  });

  it("starts the cycle where it closes, not where the search began", () => {
    const files = [at("first", 'import "./a.ts";'), at("a", 'import "./b.ts";'), at("b", 'import type { A } from "./a.ts";')];
    expect(importCycles(files)).toEqual(["packages/nn/src/a.ts -> packages/nn/src/b.ts -type-> packages/nn/src/a.ts"]);
  });

  it("accepts a diamond", () => {
    expect(
      importCycles([at("a", 'import "./b.ts"; import "./c.ts";'), at("b", 'import "./d.ts";'), at("c", 'import "./d.ts";'), at("d", "")]),
    ).toEqual([]);
  });

  it("accepts types of the files stated to be inherently in circles, and no values of theirs", () => {
    const inherent = new Map([["packages/nn/src/a.ts", "stated"]]);
    expect(importCycles([at("a", 'import "./b.ts";'), at("b", 'import type { A } from "./a.ts";')], inherent)).toEqual([]);
    expect(importCycles([at("a", 'import "./b.ts";'), at("b", 'import { a } from "./a.ts";')], inherent)).toHaveLength(1);
    expect(importCycles([at("a", 'import type { B } from "./b.ts";'), at("b", 'import { a } from "./a.ts";')], inherent)).toHaveLength(1);
  });
});
