// Generated kernels against the plain loops at sizes that cross every block boundary, and from run to run.
import { spawnSync } from "node:child_process";
import { afterAll, describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { type DType, dtypeInfo } from "../../src/dtype.ts";
import { OutOfMemoryError } from "../../src/errors.ts";
import { contiguousLayout, expandLayout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, constNode, inputNode, type UnaryOp, unaryNode, whereNode } from "../../src/ops/expr.ts";
import type { KernelTable } from "../../src/ops/table.ts";
import { sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";
import { compare, labs, storeTolerance } from "./compare.ts";
import { expectClose, Lab } from "./lab.ts";

afterAll(() => labs.forEach((lab) => void lab.backend.destroy()));

const turned = (v: View): View => ({ ...v, layout: permuteLayout(v.layout, [1, 0]) });

describe("matrix products", () => {
  for (const [m, n, k] of [
    [1, 700, 1100],
    [97, 513, 515],
    [400, 521, 37],
    [6, 8, 513],
  ] as const) {
    it(`${m} x ${k} @ ${k} x ${n}`, async () => {
      for (const [aT, bT] of [
        [false, false],
        [true, true],
      ] as const) {
        for (const [da, db] of [
          ["f32", "f32"],
          ["bf16", "f16"],
        ] as const) {
          await compare([m, n], "f32", (lab, { matmul }, out) => {
            const a = aT ? turned(lab.random([k, m], da)) : lab.random([m, k], da);
            const b = bT ? turned(lab.random([n, k], db, 2)) : lab.random([k, n], db, 2);
            matmul(out, { a, b }, {});
          });
        }
      }
    });
  }

  it("with the last of wide tasks in parts, of one product and of a batch", async () => {
    for (const [batch, m, n, k] of [
      [1, 250, 6200, 5],
      [6, 241, 2100, 3],
    ] as const)
      await compare([batch, m, n], "f32", (lab, { matmul }, out) =>
        matmul(out, { a: lab.random([batch, m, k]), b: lab.random([batch, k, n], "f32", 2) }, {}),
      );
  });

  it("with bias, gelu and gate, stored as bf16", async () => {
    const [m, n, k] = [130, 600, 520];
    await compare(
      [2, m, n],
      "bf16",
      (lab, { matmul }, out) => {
        const wide = (v: View) => ({ ...v, layout: expandLayout("t", v.layout, [2, m, n]) });
        const a = lab.random([2, m, k]);
        const w = turned(lab.random([n, k], "bf16", 2));
        const b = { ...w, layout: expandLayout("t", w.layout, [2, k, n]) };
        const [bias, gate, x] = [
          wide(lab.random([n], "f32", 3)),
          wide(lab.random([2, 1, n], "f32", 4)),
          wide(lab.random([2, m, n], "bf16", 5)),
        ];
        const sum = unaryNode(
          "gelu",
          binaryNode("mul", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")), constNode(0.1, "f32")),
        );
        const epilogue = binaryNode("add", inputNode(3, "f32"), binaryNode("mul", sum, inputNode(2, "f32")));
        matmul(out, { a, b, operands: [bias, gate, x] }, { epilogue });
      },
      4e-3,
    );
  });

  for (const dtype of ["q8_0", "q4_0", "q4_K", "q5_K", "f8e4m3"] as DType[]) {
    it(`expands ${dtype} weights`, async () => {
      const [m, n, k] = [70, 530, 1024];
      const { blockSize, blockBytes } = dtypeInfo[dtype];
      const bytes = Uint8Array.from({ length: ((n * k) / blockSize) * blockBytes }, (_, i) => ((i * 2654435761) >>> 11) & 0xff);
      // Scales of ordinary size: the halves at the head (or tail) of a block would else be NaN or huge.
      if (blockSize > 1) for (let i = 0; i < bytes.length; i += blockBytes) bytes.set([0x12, 0x2c, 0x34, 0x28], i);
      await compare([m, n], "f32", (lab, { matmul }, out) => {
        const buffer = lab.backend.allocate(bytes.length, "w");
        lab.backend.write(
          buffer,
          0,
          bytes.map((v) => (dtype === "f8e4m3" ? v & 0xbf : v)),
        );
        matmul(out, { a: lab.random([m, k]), b: turned({ buffer, dtype, layout: contiguousLayout([n, k]) }) }, {});
      });
    });
  }
});

it("packs every finite 16-bit pattern exactly", async () => {
  const size = 64;
  // A product with the unit matrix gives the weights back.
  const unit = Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0));
  for (const [dtype, exponent] of [
    ["f16", 0x7c00],
    ["bf16", 0x7f80],
  ] as const) {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => ((i & exponent) === exponent ? 0 : i));
    const run = (lab: Lab, { matmul }: KernelTable, out: View) => {
      const buffer = lab.backend.allocate(131072, "bits");
      lab.backend.write(buffer, 0, new Uint8Array(bits.buffer));
      matmul(out, { a: lab.view([size, size], unit), b: turned({ buffer, dtype, layout: contiguousLayout([1024, size]) }) }, {});
    };
    await compare([size, 1024], "f32", run, 0);
  }
});

describe("attention", () => {
  const cases: [string, { causal?: boolean; mask?: DType; lengths?: number[]; width?: number; dtype?: DType }][] = [
    ["plain", {}],
    ["causal", { causal: true }],
    ["f32 mask", { mask: "f32" }],
    ["u8 mask with lengths", { mask: "u8", lengths: [260, 77] }],
    ["512-wide head", { width: 512 }],
    ["bf16", { dtype: "bf16" }],
  ];
  for (const [name, { causal = false, mask, lengths, width = 40, dtype = "f32" }] of cases) {
    it(`${name} over several blocks`, async () => {
      const [b, n, m, l, s] = [2, 2, 1, 200, 530];
      await compare(
        [b, n, l, 24],
        dtype,
        (lab, { attention }, out) => {
          const small =
            mask &&
            lab.view(
              [l, s],
              Array.from({ length: l * s }, (_, i) => (mask === "u8" ? (i % 7 < 3 ? 1 : 0) : (i % 11) / 5 - 1)),
              mask,
            );
          const q = { ...lab.random([b, l, n, width], dtype), layout: permuteLayout(contiguousLayout([b, l, n, width]), [0, 2, 1, 3]) };
          const inputs = { q, k: lab.random([b, m, s, width], dtype, 2), v: lab.random([b, m, s, 24], dtype, 3) };
          const masks = small ? { mask: { ...small, layout: expandLayout("t", small.layout, [b, n, l, s]) } } : {};
          attention(out, { ...inputs, ...masks, ...(lengths ? { lengths: lab.view([b], lengths, "i32") } : {}) }, { scale: 0.17, causal });
        },
        storeTolerance[dtype as "f32"],
      );
    });
  }
});

describe("convolution", () => {
  for (const [stride, padding, dilation, groups, size] of [
    [1, 1, 1, 1, 33],
    [2, 1, 1, 1, 32],
    [1, 0, 1, 2, 24],
    [1, 3, 2, 1, 17],
  ] as const) {
    it(`stride ${stride}, padding ${padding}, dilation ${dilation}, groups ${groups}, with a bias`, async () => {
      const [b, c, o] = [2, 60, 22];
      const to = Math.floor((size + 2 * padding - 2 * dilation - 1) / stride) + 1;
      for (const dtype of ["f32", "f16"] as const) {
        await compare(
          [b, o, to, to],
          dtype,
          (lab, { conv }, out) => {
            const bias = lab.random([o], "f32", 3);
            const operand = { ...bias, layout: { shape: [b, o, to, to], strides: [0, 1, 0, 0], offset: 0 } };
            const epilogue = unaryNode("silu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));
            const attrs = { stride: [stride, stride], padding: [padding, padding], dilation: [dilation, dilation], groups } as const;
            conv(
              out,
              { x: lab.random([b, c, size, size], dtype), weight: lab.random([o, c / groups, 3, 3], dtype, 2), operands: [operand] },
              { ...attrs, epilogue },
            );
          },
          storeTolerance[dtype],
        );
      }
    });
  }
});

describe("rows and maps", () => {
  it("softmax and norms of long and odd rows", async () => {
    for (const [rows, width] of [
      [3, 4097],
      [50, 7],
      [1, 1],
    ] as const) {
      await compare([rows, width], "f32", (lab, { softmax }, out) => softmax(out, { x: lab.random([rows, width]) }, { log: false }));
      for (const kind of ["layer", "rms"] as const) {
        await compare([rows, width], "f32", (lab, { norm }, out) => {
          const [weight, bias] = [lab.random([width], "f32", 2), lab.random([width], "f32", 3)];
          norm(out, { x: lab.random([rows, width], "bf16"), weight, bias }, { kind, eps: 1e-5 });
        });
      }
    }
  });

  it("every function over its range", async () => {
    const grid = Array.from({ length: 4001 }, (_, i) => (i - 2000) / 50);
    const functions: UnaryOp[] = [
      "exp",
      "tanh",
      "erf",
      "sigmoid",
      "silu",
      "gelu",
      "geluErf",
      "geluQuick",
      "round",
      "sign",
      "relu",
      "square",
    ];
    for (const op of functions) {
      for (const scale of [1, 0.05]) {
        const numbers = grid.map((v) => v * scale);
        await compare([numbers.length], "f32", (lab, { map }, out) =>
          map(out, { inputs: [lab.view([numbers.length], numbers)] }, { expr: unaryNode(op, inputNode(0, "f32")) }),
        );
      }
    }
    const special = [Number.NaN, Infinity, -Infinity, 0, 100, -100, 88.7, -103.9, 1e-40];
    for (const op of ["exp", "tanh", "erf", "sigmoid", "silu", "relu"] as UnaryOp[]) {
      await compare([special.length], "f32", (lab, { map }, out) =>
        map(out, { inputs: [lab.view([special.length], special)] }, { expr: unaryNode(op, inputNode(0, "f32")) }),
      );
    }
  });

  it("all 16-bit patterns through load and store", async () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    for (const [from, to] of [
      ["f16", "f32"],
      ["bf16", "f32"],
      ["f16", "bf16"],
      ["bf16", "f16"],
    ] as [DType, DType][]) {
      await compare(
        [65536],
        to,
        (lab, { map }, out) => {
          const buffer = lab.backend.allocate(131072, "bits");
          lab.backend.write(buffer, 0, new Uint8Array(bits.buffer));
          map(out, { inputs: [{ buffer, dtype: from, layout: contiguousLayout([65536]) }] }, { expr: inputNode(0, "f32") });
        },
        0,
      );
    }
  });

  it("selections, broadcasts and shared terms", async () => {
    await compare([3, 50, 37], "f32", (lab, { map }, out) => {
      const wide = (v: View) => ({ ...v, layout: expandLayout("t", v.layout, [3, 50, 37]) });
      const inputs = [lab.random([3, 50, 37]), wide(lab.random([50, 1], "f32", 2)), wide(lab.random([37], "bf16", 3))];
      const [x, y, z] = [inputNode(0, "f32"), inputNode(1, "f32"), inputNode(2, "f32")];
      const shared = unaryNode("tanh", binaryNode("mul", x, y));
      const expr = whereNode(
        binaryNode("gt", shared, z),
        binaryNode("max", shared, y),
        binaryNode("div", shared, binaryNode("add", z, constNode(3, "f32"))),
      );
      map(out, { inputs }, { expr });
    });
    expect(sizeOf([3, 50, 37])).toBe(5550);
  });
});

describe("memory and threads", () => {
  it("uses weights that lie in another WebAssembly memory", async () => {
    const far = new Lab(createCpuBackend({ kernels: "wasm", threads: 1, arenaBytes: 12 * 2 ** 20 }));
    const [m, n, k] = [40, 1500, 1024];
    const filler = far.backend.allocate(5 * 2 ** 20, "filler");
    const b = turned(far.random([n, k], "f32", 2));
    const [a, out] = [far.random([m, k]), far.out([m, n])];
    const near = labs[0].out([m, n]);
    far.backend.kernels.matmul(out, { a, b }, {});
    labs[0].backend.kernels.matmul(near, { a: labs[0].random([m, k]), b: turned(labs[0].random([n, k], "f32", 2)) }, {});
    expectClose(await far.numbers(out), await labs[0].numbers(near));
    far.backend.release(filler);
    expect(() => far.backend.allocate(13 * 2 ** 20, "larger than any arena")).toThrow(OutOfMemoryError);
    far.backend.destroy();
  });

  it("reuses and joins what was released", () => {
    const { backend } = new Lab(createCpuBackend({ kernels: "wasm", threads: 1 }));
    const parts = Array.from({ length: 8 }, (_, i) => backend.allocate(1000 + i, "part"));
    for (const i of [1, 3, 5, 7, 0, 2, 6, 4]) backend.release(parts[i]!);
    const { pooledBytes } = backend.memory();
    expect(backend.memory().liveBytes).toBe(0);
    backend.release(backend.allocate(pooledBytes, "all of it at once"));
    expect(backend.memory().pooledBytes).toBe(pooledBytes);
    backend.trim();
    expect(backend.memory().pooledBytes).toBe(0);
    backend.destroy();
  });

  it("lets the process end while workers sleep", () => {
    const script = `
      import { createCpuBackend } from ${JSON.stringify(new URL("../../src/backends/cpu/index.ts", import.meta.url).href)};
      const b = createCpuBackend({ threads: 3 });
      const v = (m, n) => ({ buffer: b.allocate(4 * m * n, "x"), dtype: "f32", layout: { shape: [m, n], strides: [n, 1], offset: 0 } });
      const [x, y, z] = [v(400, 400), v(400, 400), v(400, 400)];
      for (let i = 0; i < 5; i++) b.kernels.matmul(z, { a: x, b: y }, {});
      console.log("finished");`;
    const args = ["--conditions=@wick/source", "--import=tsx", "--input-type=module", "-e", script];
    const { stdout, status } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 30_000 });
    expect([stdout.trim(), status]).toEqual(["finished", 0]);
  });
});
