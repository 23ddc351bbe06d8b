// Convolution on subgroup matrices without patches: a workgroup brings a block of channels of its tile's pixels, and of those around them, into
// workgroup memory once, and the product with every place of the filter reads them from there. Nothing is divided or compared for a single value.
import { isQuantized } from "../../../dtype.ts";
import { contiguousLayout } from "../../../layout.ts";
import type { ConvAttrs } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { loadElement, type StoredDType } from "../wgsl/formats.ts";
import { bindView, type KernelContext, scratchView } from "./context.ts";
import type { Finish } from "./finish.ts";
import {
  asFetched,
  declareSums,
  type Fragments,
  fragmentsOf,
  matrixDeclarations,
  matrixLabel,
  matrixOptions,
  measuredSides,
  multiplySlice,
  placeTile,
  prepareScales,
  type Sides,
  storeFragments,
  tileKey,
  type WholeTile,
} from "./gemm-matrix.ts";
import { type Gemm, gemmSpec, times, withBatch } from "./gemm-parts.ts";
import { fetch, put, putItem, registers } from "./gemm-staging.ts";
import { isSplit, type Side, sideOf, type Tile, tileBytes, tilesOf } from "./gemm-tile.ts";
import type { MatrixVariant } from "./gemm-variants.ts";
import { matrixSource, recordKernel } from "./matmul.ts";
import type { GemmOperand, MatrixSource } from "./matrix-source.ts";

type Four = readonly [number, number, number, number];

/** Pixels of a row of a tile. */
const tileWidth = 16;

/** The pixels that a tile's results are computed from: those under the filter at any of them. */
interface Halo {
  /** Rows of pixels of the tile itself. */
  readonly tileRows: number;
  readonly rows: number;
  readonly columns: number;
}

/** A convolution as the kernel sees it. */
interface Plan {
  readonly attrs: ConvAttrs;
  readonly kernel: readonly [number, number];
  readonly tile: WholeTile;
  readonly halo: Halo;
  readonly image: StoredDType;
}

function haloOf({ columns }: Tile, { stride, dilation }: ConvAttrs, [kh, kw]: readonly [number, number]): Halo {
  const tileRows = columns / tileWidth;
  const reach = (n: number, axis: 0 | 1, places: number): number => (n - 1) * stride[axis] + (places - 1) * dilation[axis] + 1;
  return { tileRows, rows: reach(tileRows, 0, kh), columns: reach(tileWidth, 1, kw) };
}

/** Operands of a convolution as a product: weights as rows, the image, and where each value of the image is seen once. */
export interface ConvOperands {
  readonly weight: GemmOperand;
  readonly image: GemmOperand;
}

/**
 * The kernel's plan for `out` [1, o, rows, w'] with the first of a variant's tiles that fits workgroup memory; undefined where none does, where
 * channels are no multiple of 16 or pixels of a row none of 4, and where more than a third of the tiles would lie beyond the image.
 */
export function convPlan(
  traits: DeviceTraits,
  variant: MatrixVariant,
  out: View,
  weight: View,
  { weight: a, image: b }: ConvOperands,
  attrs: ConvAttrs,
): Plan | undefined {
  const [, channels, kh, kw] = weight.layout.shape as Four;
  const [, , rows, width] = out.layout.shape as Four;
  if (kh * kw === 1 || width % 4 !== 0 || isQuantized(weight.dtype) || isQuantized(b.source.dtype)) return undefined;
  for (const tile of tilesOf(traits, variant, a.source, b.source)) {
    if (channels % tile.depth !== 0 || tileWidth % tile.config.n !== 0) continue;
    const halo = haloOf(tile, attrs, [kh, kw]);
    const done = Math.ceil(width / tileWidth) * Math.ceil(rows / halo.tileRows) * tile.columns;
    if (tileBytes(tile, halo.rows * halo.columns) > traits.mostTileBytes || (!traits.forced && done > 1.34 * rows * width)) continue;
    const whole = { ...tile, whole: true, short: traits.software };
    return { attrs, kernel: [kh, kw], tile: whole, halo, image: b.view.dtype as StoredDType };
  }
  return undefined;
}

/** Records a planned convolution of one image; `padTop` counts rows above the image's first. */
export function recordConvMatrix(
  ctx: KernelContext,
  plan: Plan,
  out: View,
  weight: View,
  operands: ConvOperands,
  padTop: number,
  finish: Finish,
): void {
  const { tile, kernel } = plan;
  const [o, channels] = weight.layout.shape as Four;
  const [, , rows, width] = out.layout.shape as Four;
  const taps = kernel[0] * kernel[1];
  // [o, block of channels, place of the filter, channel of the block].
  const blocks = channels / tile.depth;
  const memory = scratchView(ctx, weight.dtype, [o * channels * taps + tile.depth], "conv weight");
  const ordered = { ...memory, layout: contiguousLayout([o, blocks, taps, tile.depth]) };
  const strides = [channels * taps, tile.depth * taps, 1, taps];
  ctx.kernels.copy(ordered, { x: { ...weight, layout: { ...ordered.layout, strides, offset: weight.layout.offset } } }, {});
  const flat = { ...memory, layout: contiguousLayout([o, channels * taps]) };
  const a = matrixSource(ctx, "a", flat, o);
  const b = haloSource(ctx, operands.image.view, plan, padTop, rows, width);
  const size = { m: o, n: rows * width, k: channels * taps, batch: 1 };
  const gemm = convTile(ctx.traits, plan, size.m, b.tiles, a, b.source, finish);
  const left = { view: weight, source: a, once: { source: operands.weight.source, n: o, k: size.k } };
  recordKernel(ctx, "conv", gemm, left, { ...operands.image, source: b.source }, size, finish, 0, size.n);
  ctx.drop(memory.buffer);
}

/** The image with its parameters, and how many tiles it is cut into. */
function haloSource(
  ctx: KernelContext,
  x: View,
  { attrs, kernel, halo, image }: Plan,
  padTop: number,
  rows: number,
  width: number,
): { readonly source: MatrixSource; readonly tiles: number } {
  const bound = bindView(ctx, "conv", x);
  const [, , h, w] = x.layout.shape as Four;
  const [across, down] = [Math.ceil(width / tileWidth), Math.ceil(rows / halo.tileRows)];
  const words = elementsAre(ctx.traits, image);
  const none = (): never => {
    throw new Error("the image of a convolution is no operand of other kernels");
  };
  return {
    tiles: across * down,
    source: {
      ...{ bound, dtype: x.dtype, along: "r", quad: true, type: words.type, text: words.text },
      batch: { text: "", params: [], values: [], key: "" },
      params: ["b_o", "b_h", "b_w", "b_plane", "b_columns", "b_across", "b_tiles", "b_top:i32"],
      values: [bound.offset, h, w, h * w, width, across, across * down, padTop],
      key: `halo${x.dtype}${[...kernel, ...attrs.stride, ...attrs.dilation, attrs.padding[1]].join()}${(h * w) % 2}`,
      runs: none,
    },
  };
}

interface Elements {
  readonly type: string;
  readonly text: string;
}

/** How values of the image are read. */
const elementsAre = (traits: DeviceTraits, image: StoredDType): Elements =>
  image === "f16" && traits.matrix?.input === "f16"
    ? { type: "array<f16>", text: "fn b_value(i: u32) -> f16 { return b[i]; }\n" }
    : { type: "array<u32>", text: `fn b_value(i: u32) -> f32 { return ${loadElement(image, "b", "i")}; }\n` };

function convTile(traits: DeviceTraits, plan: Plan, m: number, tiles: number, a: MatrixSource, b: MatrixSource, finish: Finish): Gemm {
  const { tile } = plan;
  return {
    key: `conv${tileKey(traits, tile)}`,
    grid: withBatch(Math.ceil(m / tile.rows) * tiles, 1),
    measured: measuredSides(tile),
    spec: () => convSpec(traits, plan, a, b, finish),
  };
}

function convSpec(traits: DeviceTraits, plan: Plan, a: MatrixSource, b: MatrixSource, finish: Finish): ProgramSpec {
  const { tile, halo } = plan;
  const left = sideOf(tile, "a", a);
  const right: Side = { ...left, name: "b", source: b, parts: tile.parts.b, scaled: tile.scaled.b };
  const sides = { a: left, b: right };
  return gemmSpec(
    matrixLabel("conv", tile),
    tile.threads,
    asFetched(left),
    b,
    finish,
    matrixDeclarations(tile, sides, { b: halo.rows * halo.columns }),
    convBody(plan, traits.subgroupSize, sides, finish),
    matrixOptions(traits, tile),
  );
}

function convBody(plan: Plan, lanes: number, sides: Sides, finish: Finish): string {
  const { tile, halo } = plan;
  const fragments = fragmentsOf(tile);
  const walk = (careful: boolean): string => walkBlocks(plan, sides, fragments, careful);
  const inRounds = (): string => `for (var round = 0u; round < rounds; round++) { ${walk(true)} }`;
  const pixel = (at: string): string =>
    `select(p.n, (y_first + ${at} / ${tileWidth}u) * p.b_columns + x_first + ${at} % ${tileWidth}u, x_first + ${at} % ${tileWidth}u < p.b_columns)`;
  return `let z = wid.z;
  ${placeTile(tile, "p.b_tiles")}
  let y_first = (column / p.b_across) * ${halo.tileRows}u;
  let x_first = (column % p.b_across) * ${tileWidth}u;
  ${prepareScales(tile)}
  ${registers(tile, sides.a)}
  ${tile.short ? "" : times(haloTurns(plan), (turn) => placeItem(plan, turn, `lid + ${turn * tile.threads}u`)).join("\n  ")}
  ${placeFragments(plan)}
  ${declareSums(tile, fragments)}
  ${isSplit(tile) ? (tile.short ? inRounds() : `if (rounds == 1u) { ${walk(false)} } else { ${inRounds()} }`) : walk(false)}
  ${storeFragments(tile, lanes, fragments, finish, pixel)}`;
}

const haloItems = ({ halo, tile }: Plan): number => (halo.rows * halo.columns * tile.depth) / tile.item;
const haloTurns = (plan: Plan): number => Math.ceil(haloItems(plan) / plan.tile.threads);

/** Declares where the item of a turn lies in the image, whether it lies inside, and where it goes in staging memory; neighbours are pixels of one channel. */
function placeItem({ attrs, halo, tile }: Plan, turn: number | string, t: string): string {
  const [sy, sx] = attrs.stride;
  const pixels = halo.rows * halo.columns;
  return `let t${turn} = ${t};
  let y${turn} = i32(y_first * ${sy}u + (t${turn} % ${pixels}u) / ${halo.columns}u) - p.b_top;
  let x${turn} = i32(x_first * ${sx}u + (t${turn} % ${pixels}u) % ${halo.columns}u) - ${attrs.padding[1]};
  let inside${turn} = u32(y${turn}) < p.b_h && u32(x${turn}) < p.b_w;
  let channel${turn} = min(t${turn} / ${pixels}u, ${tile.depth / tile.item - 1}u) * ${tile.item}u;
  let from${turn} = p.b_o + channel${turn} * p.b_plane + select(0u, u32(y${turn}) * p.b_w + u32(x${turn}), inside${turn});
  let to${turn} = (t${turn} % ${pixels}u) * ${tile.pitch}u + t${turn} / ${pixels}u;`;
}

/** Declares where the subgroup's fragments begin in staging memory for the filter's first place. */
function placeFragments({ attrs, halo, tile }: Plan): string {
  const [sy, sx] = attrs.stride;
  const { n } = tile.config;
  const isWhole = (tile.across * n) % tileWidth === 0;
  const start = (at: string, x: string): string => `((${at} / ${tileWidth}u) * ${sy * halo.columns}u + ${x}) * ${tile.pitch}u`;
  const first = `let halo = ${start("across", isWhole ? "0u" : `(across % ${tileWidth}u) * ${sx}u`)};`;
  if (!isWhole)
    return times(
      tile.across,
      (j) => `let halo${j} = ${start(`(across + ${j * n}u)`, `((across + ${j * n}u) % ${tileWidth}u) * ${sx}u`)};`,
    ).join(" ");
  const step = (j: number): number => Math.floor((j * n) / tileWidth) * sy * halo.columns + ((j * n) % tileWidth) * sx;
  return `${first} ${times(tile.across, (j) => `let halo${j} = halo + ${step(j) * tile.pitch}u;`).join(" ")}`;
}

/** The loop over blocks of channels, and inside over places of the filter. */
function walkBlocks(plan: Plan, sides: Sides, fragments: Fragments, careful: boolean): string {
  const { tile, kernel, halo, attrs } = plan;
  const { depth, pitch } = tile;
  const [kh, kw] = kernel;
  const [dy, dx] = attrs.dilation;
  const slots = careful ? 0 : tile.slots;
  const get = fetch(tile, sides.a, true);
  const stage = (from: string): string => put(tile, sides.a, from, careful);
  const places = {
    a: (i: number) => ({ first: `left + ${i * tile.config.m * pitch}u`, pitch }),
    b: (j: number) => ({ first: `halo${j} + place`, pitch: pitch * attrs.stride[1] }),
  };
  const barrier = "workgroupBarrier();";
  // Slices are fetched in turn; beyond the last there is memory for one more.
  const around = {
    0: [`${get}\n${barrier}\n${stage("0u")}\n${barrier}\nk0 += ${depth}u;`, ""],
    1: [`${barrier}\n${stage("0u")}\n${barrier}\nk0 += ${depth}u; ${get}`, ""],
    2: [`k0 += ${depth}u; ${get}`, `${stage("other")}\n${barrier}\nlet swap = slot; slot = other; other = swap;`],
  } as const;
  const [before, after] = around[slots];
  const step = (tap: string): string => `${before}
        let left = down * ${pitch}u${slots === 2 ? " + slot" : ""};
        let place = ((${tap} / ${kw}u) * ${dy * halo.columns}u + (${tap} % ${kw}u) * ${dx}u) * ${pitch}u;
        ${multiplySlice(tile, places, fragments, careful)}
        ${after}`;
  const isUnrolled = !tile.short && !isSplit(tile) && kh * kw <= 9;
  const steps = isUnrolled
    ? times(kh * kw, (tap) => `{ ${step(`${tap}u`)} }`).join("\n      ")
    : `for (var tap = 0u; tap < ${kh * kw}u; tap++) { ${step("tap")} }`;
  return `var k0 = 0u;
    ${slots === 0 ? "" : get}
    ${slots === 2 ? `${stage("0u")}\n    var slot = 0u; var other = ${sides.a.rows * pitch}u;` : ""}
    for (var block = 0u; block < p.k / ${depth * kh * kw}u; block++) {
      ${slots === 2 ? "" : barrier}
      ${stageHalo(plan, sides.b, careful)}
      ${slots === 2 ? barrier : ""}
      ${steps}
    }`;
}

/** Statements that bring a block of channels of the halo into staging memory. */
function stageHalo(plan: Plan, side: Side, careful: boolean): string {
  const { tile } = plan;
  const count = haloItems(plan);
  const first = `let first = block * ${tile.depth}u * p.b_plane;`;
  if (tile.short)
    return `${first} for (var t = lid; t < ${count}u; t += ${tile.threads}u) {
        ${placeItem(plan, "_", "t")} ${loadItem(plan, "_")} ${storeItem(plan, side, "_", careful)} }`;
  const turns = haloTurns(plan);
  const store = (turn: number): string => {
    const text = storeItem(plan, side, turn, careful);
    return (turn + 1) * tile.threads <= count ? text : `if (t${turn} < ${count}u) { ${text} }`;
  };
  return `{ ${first} ${times(turns, (turn) => loadItem(plan, turn)).join("\n      ")}
      ${times(turns, store).join("\n      ")} }`;
}

const loadItem = ({ tile }: Plan, turn: number | string): string =>
  times(tile.item, (j) => `let v${turn}_${j} = b_value(from${turn} + first${j === 0 ? "" : ` + ${j}u * p.b_plane`});`).join(" ");

function storeItem({ tile, image }: Plan, side: Side, turn: number | string, careful: boolean): string {
  const four = (to: "f16" | "f32", h: number): string => `vec4<${to}>(${times(4, (j) => `${to}(v${turn}_${4 * h + j})`).join(", ")})`;
  const to = (part: number): string => `sb${part}[to${turn}]`;
  const halves = times(tile.item / 4, (h) => h);
  if (image === "f16" && tile.config.input === "f16" && !careful && side.parts === 1 && !side.scaled) {
    const words = halves.map((h) => `bitcast<vec2<u32>>(${four("f16", h)})`).join(", ");
    return `${to(0)} = select(vec4<u32>(), vec4<u32>(${words}), inside${turn});`;
  }
  const factor = side.scaled ? " * factor_b" : "";
  const values = halves.map((h) => `select(vec4<f32>(), ${four("f32", h)}${factor}, inside${turn})`);
  return putItem(tile, side, to, values, careful);
}
