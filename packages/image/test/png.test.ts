// PNG out and in: round trips, Pillow's files, a second decoder's opinion, texts, and files that are broken on purpose.
import { decode as decodeWithFastPng } from "fast-png";
import { unzlibSync, zlibSync } from "fflate";
import { describe, expect, test } from "vitest";
import { decodePng, encodePng, ImageError, ImageFormatError, ImageSizeError, ImageValueError, readPngText } from "../src/index.ts";
import { readChunks, writeChunks } from "../src/png/chunks.ts";
import { bytesOf, goldens, pictureOf, testPicture } from "./goldens.ts";

describe("round trip", () => {
  test.each([
    [1, 1],
    [3, 5],
    [64, 64],
    [257, 31],
  ])("%i x %i, with and without alpha", (width, height) => {
    for (const hasAlpha of [false, true]) {
      const image = testPicture(width, height, 7, hasAlpha);
      const png = encodePng(image);
      expect(decodePng(png)).toEqual({ ...image, text: {} });
      const second = decodeWithFastPng(png);
      expect([second.width, second.height, second.channels]).toEqual([width, height, hasAlpha ? 4 : 3]);
      if (!hasAlpha) expect(Buffer.from(second.data.buffer).equals(image.rgb)).toBe(true);
    }
  });

  test("the same picture gives the same bytes, every filter is used, and filtering pays", () => {
    // A flat row, a ramp, a repeated ramp, the mean of left and above, and a plane: each suits another filter.
    const noise = testPicture(100, 100).rgb;
    const rgb = new Uint8Array(100 * 100 * 3);
    for (let i = 0; i < rgb.length; i++) {
      const [row, left, up] = [Math.floor(i / 300), i % 300 < 3 ? 0 : rgb[i - 3]!, i < 300 ? 0 : rgb[i - 300]!];
      rgb[i] = [noise[i]! & 3, left + (noise[i]! & 3), up + (noise[i]! & 3), ((left + up) >> 1) + (noise[i]! & 3), left][row % 5]!;
    }
    const image = { width: 100, height: 100, rgb };
    const png = encodePng(image);
    expect(encodePng(image)).toEqual(png);
    const idat = [...readChunks("test", png)].find((chunk) => chunk.type === "IDAT")!.data;
    const filters = Array.from(unzlibSync(idat)).filter((_, i) => i % 301 === 0);
    expect(new Set(filters).size).toBeGreaterThanOrEqual(4);
    expect(png.length).toBeLessThan(zlibSync(rgb).length);
    expect(decodePng(png).rgb).toEqual(rgb);
  });

  test("an encoded picture keeps its bytes across versions", () => {
    expect(
      Buffer.from(encodePng({ width: 2, height: 1, rgb: Uint8Array.of(1, 2, 3, 4, 5, 6) }, { text: { seed: "42" } })).toString("hex"),
    ).toMatchInlineSnapshot(
      `"89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd000000077445587473656564003432afad4e3c0000000d49444154789c63646462060200003c00112077a5e40000000049454e44ae426082"`,
    );
  });

  test("sizes that do not match are refused", () => {
    expect(() => encodePng({ width: 2, height: 2, rgb: new Uint8Array(11) })).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: encodePng: rgb has 11 bytes, 2 x 2 pixels need 12]`,
    );
    expect(() => encodePng({ width: 0, height: 2, rgb: new Uint8Array(0) })).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: encodePng: width and height must be whole numbers above 0: 0 x 2]`,
    );
    expect(() => encodePng({ width: 1, height: 1, rgb: new Uint8Array(3), alpha: new Uint8Array(2) })).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: encodePng: alpha has 2 bytes, 1 x 1 pixels need 1]`,
    );
  });
});

describe("Pillow's files", () => {
  test.each(Object.keys(goldens.png))("%s", (name) => {
    const stored = goldens.png[name]!;
    expect(decodePng(bytesOf(stored.png))).toEqual({ ...pictureOf(stored), text: {} });
  });
});

// Interlaced files, which Pillow does not write: the same picture, its rows cut into the seven passes, unfiltered.
describe("interlaced", () => {
  const passes = [
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
  ] as const;

  function interlaced(
    width: number,
    height: number,
    depth: number,
    colour: number,
    samples: (x: number, y: number) => number[],
  ): Uint8Array {
    const raw: number[] = [];
    for (const [x0, y0, dx, dy] of passes) {
      if (x0 >= width) continue;
      for (let y = y0; y < height; y += dy) {
        const bits: string[] = [];
        for (let x = x0; x < width; x += dx) for (const sample of samples(x, y)) bits.push(sample.toString(2).padStart(depth, "0"));
        const line = bits.join("");
        raw.push(0);
        for (let i = 0; i < line.length; i += 8) raw.push(Number.parseInt(line.slice(i, i + 8).padEnd(8, "0"), 2));
      }
    }
    const header = Uint8Array.of(0, 0, 0, width, 0, 0, 0, height, depth, colour, 0, 0, 1);
    return writeChunks([
      { type: "IHDR", data: header },
      { type: "IDAT", data: zlibSync(Uint8Array.from(raw)) },
    ]);
  }

  test.each([
    [1, 1],
    [3, 2],
    [8, 8],
    [13, 11],
  ])("RGB %i x %i", (width, height) => {
    const image = testPicture(width, height, 3);
    const png = interlaced(width, height, 8, 2, (x, y) => [...image.rgb.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)]);
    expect(decodePng(png).rgb).toEqual(image.rgb);
    expect(new Uint8Array(decodeWithFastPng(png).data)).toEqual(image.rgb);
  });

  test.each([1, 2, 4])("grey of %i bits", (depth) => {
    const most = 2 ** depth - 1;
    const value = (x: number, y: number) => (x * 5 + y * 3 + x * y) & most;
    const { rgb } = decodePng(interlaced(13, 11, depth, 0, (x, y) => [value(x, y)]));
    for (let y = 0; y < 11; y++) for (let x = 0; x < 13; x++) expect(rgb[(y * 13 + x) * 3]).toBe(Math.round((value(x, y) * 255) / most));
  });
});

describe("text", () => {
  const texts = { prompt: "a red apple, café", unicode: "红苹果 🍎\nsecond line", empty: "", control: "a\tb\u0085c" };

  test("is written, found without decoding, and found when decoding", () => {
    const png = encodePng(testPicture(4, 4), { text: texts });
    expect(readPngText(png)).toEqual(texts);
    expect(decodePng(png).text).toEqual(texts);
    const types = [...readChunks("test", png)].map((chunk) => chunk.type);
    expect(types).toEqual(["IHDR", "tEXt", "iTXt", "tEXt", "iTXt", "IDAT", "IEND"]);
    expect(decodeWithFastPng(png).text).toMatchObject({ prompt: texts.prompt });
  });

  test("Pillow's plain, compressed and international texts", () => {
    expect(readPngText(bytesOf(goldens.texts.png))).toEqual({
      plain: "a red apple, café",
      long: "seed ".repeat(400),
      unicode: "红苹果 🍎",
      packed: "αβγ ".repeat(300),
    });
  });

  test("a keyword from a file cannot reach the prototype", () => {
    const png = encodePng(testPicture(1, 1), { text: JSON.parse('{"__proto__": "x"}') as Record<string, string> });
    expect(Object.getOwnPropertyNames(readPngText(png))).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(readPngText(png))).toBe(Object.prototype);
  });

  test.each(["", " seed", "seed ", "a  b", "x".repeat(80), "提示", "a\nb"])("keyword %j is refused", (keyword) => {
    expect(() => encodePng(testPicture(1, 1), { text: { [keyword]: "x" } })).toThrow(ImageValueError);
  });

  test("a NUL is refused", () => {
    expect(() => encodePng(testPicture(1, 1), { text: { seed: "4\x002" } })).toThrowErrorMatchingInlineSnapshot(
      `[ImageValueError: encodePng: the text of seed has a NUL character, which PNG cannot carry]`,
    );
  });
});

describe("broken and hostile files", () => {
  const good = encodePng(testPicture(16, 16), { text: { prompt: "x" } });
  const [header, ...rest] = [...readChunks("test", good)].filter((chunk) => chunk.type !== "IEND");
  const pixels = rest.at(-1)!;

  function withHeader(change: (data: Uint8Array) => void): Uint8Array {
    const data = header!.data.slice();
    change(data);
    return writeChunks([{ type: "IHDR", data }, pixels]);
  }

  test("every cut is an error of ours, at every byte", () => {
    for (let length = 0; length < good.length; length++) expect(() => decodePng(good.subarray(0, length))).toThrow(ImageFormatError);
    expect(() => decodePng(good.subarray(0, good.length - 20))).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodePng: the file is cut: chunk IDAT at byte 53 states 653 bytes, 649 are left]`,
    );
  });

  test("every flipped bit is an error of ours, or harmless", () => {
    for (let at = 0; at < good.length; at++) {
      const bytes = good.slice();
      bytes[at]! ^= 1 << (at % 8);
      expect(() => decodePng(bytes)).toThrow(ImageError);
    }
  });

  test("flips with a right CRC end in a picture or an error of ours", () => {
    let decoded = 0;
    for (let at = 0; at < pixels.data.length; at++) {
      const data = pixels.data.slice();
      data[at]! ^= 1 << (at % 8);
      try {
        decoded += decodePng(writeChunks([header!, { type: "IDAT", data }])).width > 0 ? 1 : 0;
      } catch (error) {
        expect(error).toBeInstanceOf(ImageError);
      }
    }
    expect(decoded).toBeGreaterThan(0);
  });

  test("a wrong CRC", () => {
    const bytes = good.slice();
    bytes[20]! ^= 1;
    expect(() => decodePng(bytes)).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodePng: chunk IHDR at byte 8 is damaged: its CRC is wrong]`,
    );
  });

  test("sizes of a bomb are refused before anything is allocated", () => {
    const huge = withHeader((data) => data.fill(0x7f, 0, 8));
    expect(() => decodePng(huge)).toThrow(ImageSizeError);
    expect(() => decodePng(huge)).toThrowErrorMatchingInlineSnapshot(
      `[ImageSizeError: decodePng: too many pixels: 2139062143 x 2139062143, the limit is 67108864; pass a larger maxPixels if this is meant]`,
    );
    expect(() => decodePng(good, { maxPixels: 255 })).toThrow(ImageSizeError);
    expect(() => decodePng(withHeader((data) => data.fill(0, 0, 4)))).toThrow(ImageSizeError);
  });

  test("a decompression bomb writes no more than the picture needs", () => {
    const bomb = zlibSync(new Uint8Array(200_000_000), { level: 9 });
    const before = process.memoryUsage().arrayBuffers;
    const { rgb } = decodePng(writeChunks([header!, { type: "IDAT", data: bomb }]));
    expect(rgb).toEqual(new Uint8Array(16 * 16 * 3));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
    const text = new Uint8Array([...new TextEncoder().encode("k"), 0, 0, ...bomb]);
    expect(() => readPngText(writeChunks([header!, { type: "zTXt", data: text }]))).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: readPngText: the text k is longer than 16777216 bytes]`,
    );
  });

  test("too few pixels, no pixels, no palette, a colour outside the palette", () => {
    const short = { type: "IDAT", data: zlibSync(new Uint8Array(100)) };
    expect(() => decodePng(writeChunks([header!, short]))).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodePng: the pixel data has 100 bytes, 16 x 16 pixels need 784]`,
    );
    expect(() => decodePng(writeChunks([header!]))).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodePng: the file has no IDAT chunk, so no pixels]`,
    );
    const palette = header!.data.slice();
    palette[9] = 3;
    const chunks = [
      { type: "IHDR", data: palette },
      { type: "PLTE", data: new Uint8Array(3) },
    ];
    const zeros = { type: "IDAT", data: zlibSync(new Uint8Array(16 * 17)) };
    expect(() => decodePng(writeChunks([chunks[0]!, zeros]))).toThrow(/a palette picture needs a PLTE chunk of colours, it has none/);
    expect(decodePng(writeChunks([...chunks, zeros])).rgb).toEqual(new Uint8Array(768));
    const ones = { type: "IDAT", data: zlibSync(new Uint8Array(16 * 17).fill(1)) };
    expect(() => decodePng(writeChunks([...chunks, ones]))).toThrow(/pixel 0 has colour \d+, the palette has 1/);
  });

  test("pixel formats that do not exist", () => {
    for (const [at, value] of [
      [8, 3],
      [9, 1],
      [10, 1],
      [11, 1],
      [12, 2],
    ] as const) {
      // biome-ignore format: one table
      expect(() => decodePng(withHeader((data) => data.fill(value, at, at + 1)))).toThrow(/no such PNG pixel format/);
    }
    expect(() => decodePng(writeChunks([pixels]))).toThrow(/the first chunk must be IHDR/);
    expect(() => decodePng(new Uint8Array(0))).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodePng: not a PNG file: it starts with nothing]`,
    );
    expect(() => decodePng(new TextEncoder().encode("<html>"))).toThrowErrorMatchingInlineSnapshot(
      `[ImageFormatError: decodePng: not a PNG file: it starts with 3c 68 74 6d 6c 3e]`,
    );
  });
});
