// What the hub tests share: a mock hub with one repository, a cache folder that is removed, options that retry fast.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type MockHub, type MockRepo, mockBytes, startMockHub } from "@wick/testing/mock-hub";
import { afterEach } from "vitest";
import type { HubOptions } from "../src/index.ts";

export const repo = "org/model";
export const weights = mockBytes(3_000_000);

/** Files of the usual test repository. */
export function usualFiles(): MockRepo["files"] {
  return {
    "config.json": '{"width": 8}',
    "model_index.json": '{"_class_name": "Test"}',
    "transformer/model-00001-of-00002.safetensors": weights,
    "transformer/model-00002-of-00002.safetensors": mockBytes(400_000, 2),
    "vae/weights.safetensors": mockBytes(200_000, 3),
  };
}

export const big = "transformer/model-00001-of-00002.safetensors";

const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A hub that is closed after the test. */
export async function hub(content: Partial<MockRepo> = {}): Promise<MockHub> {
  const started = await startMockHub({ [repo]: { files: usualFiles(), ...content } });
  cleanups.push(() => started.close());
  return started;
}

/** A folder that is removed after the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "wick-hub-"));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Options for `huggingFace` against a mock hub. */
export function against(server: MockHub, cacheDir: string, more: HubOptions = {}): HubOptions {
  return { endpoint: server.endpoint, cacheDir, token: false, offline: false, retryDelayMs: 5, stallTimeoutMs: 2_000, ...more };
}

/** The error a promise rejects with; fails when it does not. */
export async function errorOf(promise: Promise<unknown>): Promise<Error> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ("error" in outcome) return outcome.error as Error;
  throw new Error(`expected a rejection, got ${JSON.stringify(outcome.value)}`);
}

/** Resolves when a server has noticed that a client left and counts no more bytes for it. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 250));
}
