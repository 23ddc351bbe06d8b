// Where a Chromium is, and the flags under which WebGPU compute works in it headless and without a GPU (SwiftShader).
import { existsSync } from "node:fs";

const places = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

/** Path of the Chromium to test with (CHROMIUM_PATH wins), or undefined when none is installed. */
export function findChromium(): string | undefined {
  return [process.env["CHROMIUM_PATH"], ...places].find((path) => path && existsSync(path));
}

/** Launch flags; without --enable-unsafe-webgpu a machine without a GPU gets no adapter. */
export const chromiumArgs: readonly string[] = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
];
