// Resizing against Pillow, floats against diffusers, JPEG and WebP against Pillow, grids and terminal previews.
import { describe, expect, test, vi } from "vitest";
import {
  DecoderMissingError,
  decodeImage,
  encodePng,
  flatten,
  fromPixels,
  grid,
  halfBlocks,
  ImageFormatError,
  ImageSizeError,
  ImageValueError,
  imageFormat,
  inlinePng,
  inlineProtocol,
  resize,
  toPixels,
} from "../src/index.ts";
import { bytesOf, floatsOf, goldens, largestDifference, pictureOf, testPicture } from "./goldens.ts";

describe("resize", () => {
  test.each(goldens.resize.cases.map((one) => [one.filter, one.width, one.height, one] as const))(
    "%s to %i x %i is Pillow's, bit for bit",
    (filter, width, height, stored) => {
      const result = resize(pictureOf(goldens.resize.source), width, height, filter);
      expect(largestDifference(result.rgb, bytesOf(stored.rgb))).toBe(0);
    },
  );

  test.each(goldens.resizeAlpha.cases.map((one) => [one.filter, one.width, one.height, one] as const))(
    "with alpha, %s to %i x %i",
    (filter, width, height, stored) => {
      const result = resize(pictureOf(goldens.resizeAlpha.source), width, height, filter);
      expect(largestDifference(result.alpha!, bytesOf(stored.alpha!))).toBe(0);
      expect(largestDifference(result.rgb, bytesOf(stored.rgb))).toBe(0);
    },
  );

  test("the source stays as it is and a copy comes back", () => {
    const source = testPicture(5, 4);
    const before = source.rgb.slice();
    const copy = resize(source, 5, 4);
    copy.rgb[0]! ^= 255;
    expect(source.rgb).toEqual(before);
  });

  test("sizes below one are refused", () => {
    expect(() => resize(testPicture(4, 4), 0, 4)).toThrow(ImageSizeError);
    expect(() => resize(testPicture(4, 4), 2.5, 4)).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: resize: width and height must be whole numbers above 0: 2.5 x 4]`,
    );
  });
});

describe("floats", () => {
  test("every byte becomes diffusers' number, bit for bit", () => {
    const { to } = goldens.rounding;
    expect(toPixels(pictureOf(to))).toEqual(floatsOf(to.values));
  });

  test("numbers become diffusers' bytes: halves, overshoots and infinities", () => {
    const { from } = goldens.rounding;
    expect(fromPixels(floatsOf(from.values), from.width, from.height).rgb).toEqual(bytesOf(from.rgb));
  });

  test("a picture survives the way to floats and back", () => {
    const image = testPicture(16, 16);
    expect(fromPixels(toPixels(image), 16, 16)).toEqual(image);
  });

  test("NaN and wrong lengths are refused", () => {
    const pixels = new Float32Array(12);
    pixels[5] = Number.NaN;
    expect(() => fromPixels(pixels, 2, 2)).toThrow(ImageValueError);
    expect(() => fromPixels(pixels, 2, 2)).toThrowErrorMatchingInlineSnapshot(
      `[ImageValueError: fromPixels: 1 of 12 values are NaN: [3, 2, 2]; the model overflowed on the way: try dtype f32 or bf16]`,
    );
    expect(() => fromPixels(pixels, 3, 2)).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: fromPixels: 12 values do not fill [3, 2, 3], which has 18]`,
    );
  });
});

describe("other formats", () => {
  test.each([
    ["jpeg", 3],
    ["jpeg-turned", 3],
    ["webp", 4],
    ["webp-alpha", 0],
  ] as const)("%s decodes as Pillow does, within %i of 255", async (name, tolerance) => {
    const stored = goldens.lossy[name]!;
    const image = await decodeImage(bytesOf(stored.file));
    expect([image.width, image.height]).toEqual([stored.width, stored.height]);
    const expected = pictureOf(stored);
    expect(largestDifference(image.rgb, expected.rgb)).toBeLessThanOrEqual(tolerance);
    expect(image.alpha).toEqual(expected.alpha);
  });

  test("PNG needs no decoder of others", async () => {
    const image = testPicture(3, 3, 1, true);
    expect(await decodeImage(encodePng(image, { text: { a: "b" } }))).toEqual(image);
  });

  test("formats are told by their first bytes", () => {
    const kinds = Object.values(goldens.lossy).map((stored) => imageFormat(bytesOf(stored.file)));
    expect(kinds).toEqual(["jpeg", "jpeg", "webp", "webp"]);
    expect(imageFormat(new TextEncoder().encode("GIF89a"))).toBe("gif");
    expect(imageFormat(new Uint8Array(3))).toBeUndefined();
  });

  test("without sharp the error says how to get it", async () => {
    vi.doMock("sharp", () => {
      throw new Error("Cannot find package 'sharp'");
    });
    const attempt = decodeImage(bytesOf(goldens.lossy["webp"]!.file)).finally(() => vi.doUnmock("sharp"));
    await expect(attempt).rejects.toBeInstanceOf(DecoderMissingError);
    await expect(attempt).rejects.toThrowErrorMatchingInlineSnapshot(
      `[DecoderMissingError: decodeImage: webp needs the optional package sharp here; npm install sharp, or convert the file to PNG]`,
    );
  });

  test("cut, unknown and too large files are errors of ours", async () => {
    const jpeg = bytesOf(goldens.lossy["jpeg"]!.file);
    await expect(decodeImage(jpeg.subarray(0, 300))).rejects.toBeInstanceOf(ImageFormatError);
    await expect(decodeImage(jpeg, { maxPixels: 100 })).rejects.toThrow(ImageSizeError);
    await expect(decodeImage(jpeg, { maxPixels: 100 })).rejects.toThrow(/too many pixels: \d+ x \d+, the limit is 100;/);
    await expect(decodeImage(new TextEncoder().encode("hello"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodeImage: not an image file of a known format (5 bytes); use PNG, JPEG or WebP]`,
    );
  });
});

describe("grid", () => {
  test("lays out rows with gaps and fills the rest", () => {
    const plain = (value: number) => ({ width: 1, height: 2, rgb: new Uint8Array(6).fill(value) });
    const { width, height, rgb } = grid([plain(10), plain(20), plain(30)], 2, { gap: 1, background: [1, 2, 3] });
    expect([width, height]).toEqual([3, 5]);
    const red = Array.from({ length: 15 }, (_, i) => rgb[i * 3]);
    expect(red).toEqual([10, 1, 20, 10, 1, 20, 1, 1, 1, 30, 1, 1, 30, 1, 1]);
    expect([...rgb.subarray(3, 6)]).toEqual([1, 2, 3]);
  });

  test("fewer pictures than columns make one short row", () => {
    expect(grid([testPicture(2, 2)], 4).width).toBe(2);
  });

  test("no pictures, no columns, other sizes", () => {
    expect(() => grid([], 2)).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: grid: needs pictures, 1 or more columns and a gap of 0 or more: 0 pictures, 2 columns, gap 0]`,
    );
    expect(() => grid([testPicture(2, 2)], 0)).toThrow(ImageSizeError);
    expect(() => grid([testPicture(2, 2), testPicture(3, 2)], 2)).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: grid: pictures differ in size: picture 0 is 2 x 2, picture 1 is 3 x 2; resize them first]`,
    );
  });
});

test("flatten lays transparent pixels over a colour", () => {
  const image = { width: 3, height: 1, rgb: new Uint8Array(9).fill(200), alpha: Uint8Array.of(255, 0, 128) };
  expect([...flatten(image, [0, 100, 255]).rgb]).toEqual([200, 200, 200, 0, 100, 255, 100, 150, 227]);
});

describe("terminal", () => {
  const square = { width: 2, height: 2, rgb: Uint8Array.of(255, 0, 0, 255, 0, 0, 0, 0, 255, 0, 255, 0) };

  test("two pixels per character, colours repeated only when they change", () => {
    expect(halfBlocks(square, 2)).toBe("\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;255;0;0;48;2;0;255;0m▀\x1b[0m");
    const plain = halfBlocks({ width: 4, height: 4, rgb: new Uint8Array(48).fill(9) }, 4);
    expect(plain).toBe(Array(2).fill("\x1b[38;2;9;9;9;48;2;9;9;9m▀▀▀▀\x1b[0m").join("\n"));
  });

  test("the shape is kept", () => {
    expect(halfBlocks(testPicture(64, 32), 40).split("\n")).toHaveLength(10);
    expect(halfBlocks(testPicture(100, 1), 10).split("\n")).toHaveLength(1);
  });

  test("inline pictures: which terminals, and in which words", () => {
    expect(inlineProtocol({ TERM: "xterm-kitty" })).toBe("kitty");
    expect(inlineProtocol({ TERM_PROGRAM: "WezTerm" })).toBe("iterm2");
    expect(inlineProtocol({ TERM: "xterm-kitty", TMUX: "/tmp/x" })).toBeUndefined();
    expect(inlineProtocol({ TERM: "xterm-256color" })).toBeUndefined();
    const png = encodePng(testPicture(64, 64));
    const kitty = inlinePng(png, 20, "kitty");
    const pieces = kitty
      .split("\x1b\\")
      .slice(0, -1)
      .map((piece) => piece.replace("\x1b_G", "").split(";"));
    expect(pieces[0]?.[0]).toBe("a=T,f=100,c=20,m=1");
    expect(pieces.at(-1)?.[0]).toBe("m=0");
    expect(new Uint8Array(Buffer.from(pieces.map((piece) => piece[1]).join(""), "base64"))).toEqual(png);
    expect(inlinePng(Uint8Array.of(1, 2, 3), 20, "iterm2")).toBe("\x1b]1337;File=inline=1;size=3;width=20;preserveAspectRatio=1:AQID\x07");
  });
});
