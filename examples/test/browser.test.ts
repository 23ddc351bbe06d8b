// The browser example as a visitor meets it: built with Vite, served, in a headless Chromium. It draws, stops, and agrees with PyTorch.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumArgs, findChromium } from "../../tools/chromium.ts";
import { serveFolder } from "../06-browser/static-server.ts";

const root = fileURLToPath(new URL("../06-browser", import.meta.url));
const executablePath = findChromium();

describe.skipIf(!executablePath)("the page (needs a Chromium)", () => {
  let browser: Browser;
  let page: Page;
  let outDir: string;
  let server: Awaited<ReturnType<typeof serveFolder>>;
  const complaints: string[] = [];

  beforeAll(async () => {
    outDir = await mkdtemp(join(tmpdir(), "wick-page-"));
    await build({ root, configFile: join(root, "vite.config.ts"), logLevel: "error", build: { outDir } });
    server = await serveFolder(outDir);
    browser = await chromium.launch({ args: [...chromiumArgs], ...(executablePath ? { executablePath } : {}) });
    page = await browser.newPage();
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await page.goto(`${server.url}?device=cpu`);
    await idle();
  }, 90_000);

  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await rm(outDir, { recursive: true, force: true });
  });

  const idle = async () => {
    await page.waitForSelector('body[data-state="idle"]', { timeout: 80_000 });
    return page.textContent("#status");
  };
  /** Mean of one colour channel over the picture's middle. */
  const middle = (channel: number): Promise<number> =>
    page.$eval(
      "#picture",
      (canvas, c) => {
        const context = (
          canvas as unknown as { getContext(kind: "2d"): { getImageData(...box: number[]): { data: Uint8ClampedArray } } }
        ).getContext("2d");
        const values = context.getImageData(24, 28, 16, 16).data.filter((_, i) => i % 4 === c);
        return values.reduce((sum, value) => sum + value, 0) / values.length;
      },
      channel,
    );

  test("draws a red apple, with a preview after every step", { timeout: 85_000 }, async () => {
    await page.fill("#prompt", "a red apple");
    await page.click("#draw");
    expect(await idle()).toMatch(/^“a red apple”, [\d.]+ s$/);
    expect(await page.locator("#film li").count()).toBe(12);
    const [red, green] = [await middle(0), await middle(1)];
    expect(red).toBeGreaterThan(180);
    expect(green).toBeLessThan(100);
    expect(await page.textContent("#facts")).toMatch(/Weights in memory2\d\.\d MiB/);
    expect(await page.textContent("#adapter")).toMatch(/Runs oncpu/);
  });

  test("agrees with PyTorch", { timeout: 85_000 }, async () => {
    await page.click("#verify");
    expect(await idle()).toMatch(/^All checks passed/);
    expect(await page.locator("#checks .good").count()).toBe(6);
  });

  test("suggests names the model knows, and stops when asked", { timeout: 85_000 }, async () => {
    await page.fill("#prompt", "a red aple");
    expect(await page.textContent("#hint")).toMatch(/nearest are .*red apple/);
    await page.fill("#steps", "50");
    await page.click("#draw");
    await page.waitForSelector("#film li");
    expect(await page.textContent("#status")).toMatch(/^Step \d+ of 50(, block \d+ of \d+)?$/);
    await page.click("#stop");
    expect(await idle()).toBe("Stopped.");
    expect(await page.locator("#film li").count()).toBeLessThan(50);
  });

  test("says what is wrong with a request", { timeout: 85_000 }, async () => {
    await page.$eval("#request", (form) => form.setAttribute("novalidate", ""));
    await page.fill("#steps", "0");
    await page.click("#draw");
    expect(await idle()).toBe("Failed: generate: steps is a whole number in 1…1000, got 0");
    expect(complaints).toEqual([]);
  });

  test("agrees with PyTorch on WebGPU", { timeout: 89_000 }, async () => {
    await page.goto(`${server.url}?device=webgpu`);
    await idle();
    expect(await page.textContent("#adapter")).toMatch(/Runs onwebgpu/);
    await page.click("#verify");
    expect(await idle()).toMatch(/^All checks passed/);
    expect(await page.locator("#checks .good").count()).toBe(6);
  });
});
