// Local files where there is no Node.
import { fileSource, openWeights } from "@wick/tensor";
import { expect, test, vi } from "vitest";

test("local files in a browser are refused with what to use instead", async () => {
  vi.stubGlobal("process", undefined);
  try {
    await expect(fileSource("model.safetensors")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: openFile: there are no local files here; use httpSource, blobSource or memorySource]`,
    );
    await expect(openWeights(new URL("file:///model.safetensors"))).rejects.toThrow(/^openWeights: there are no local files here/);
  } finally {
    vi.unstubAllGlobals();
  }
});
