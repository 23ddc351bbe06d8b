// Draws a picture in the built page, verifies, and saves what the page looks like to docs/images/browser.png.
// Run from the repository's root: npx tsx --conditions=@wick/source examples/06-browser/screenshot.ts webgpu
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { build } from "vite";
import { chromiumArgs, findChromium } from "../../tools/chromium.ts";
import { serveFolder } from "./static-server.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const outDir = await mkdtemp(join(tmpdir(), "wick-page-"));
await build({ root: here, configFile: join(here, "vite.config.ts"), logLevel: "warn", build: { outDir } });
const server = await serveFolder(outDir);
const executablePath = findChromium();
const browser = await chromium.launch({ args: [...chromiumArgs], ...(executablePath ? { executablePath } : {}) });
try {
  const page = await browser.newPage({ viewport: { width: 1040, height: 900 }, deviceScaleFactor: 1 });
  await page.goto(`${server.url}${process.argv[2] ? `?device=${process.argv[2]}` : ""}`);
  const isIdle = () => page.waitForFunction(() => document.body.dataset["state"] === "idle", undefined, { timeout: 300_000 });
  await isIdle();
  await page.click("#verify");
  await isIdle();
  await page.click("#draw");
  await isIdle();
  await page.screenshot({ path: resolve(here, "../../docs/images/browser.png"), fullPage: true });
  console.log(await page.textContent("#status"), "\n", await page.textContent("#checks"));
} finally {
  await browser.close();
  await server.close();
  await rm(outDir, { recursive: true });
}
