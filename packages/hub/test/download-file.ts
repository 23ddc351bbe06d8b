// A process of its own that downloads one file: `node download-file.ts endpoint cacheDir repo path`. Prints progress and the final path.
import { huggingFace } from "../src/index.ts";

const [endpoint = "", cacheDir = "", repo = "", path = ""] = process.argv.slice(2);
const files = huggingFace(repo, {
  endpoint,
  cacheDir,
  token: false,
  retryDelayMs: 5,
  onProgress: ({ loadedBytes }) => process.stdout.write(`loaded ${loadedBytes}\n`),
});
process.stdout.write(`path ${await files.localPath(path)}\n`);
