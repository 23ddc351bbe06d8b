// The environment variables and token file of the Python library.
// Reference: huggingface/huggingface_hub src/huggingface_hub/constants.py and utils/_auth.py.
import { type HubDefaults, publicEndpoint } from "../settings.ts";
import { fs, os, path } from "./builtins.ts";

/** Reads HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE, with their older names. */
export async function readEnvironment(env: NodeJS.ProcessEnv = process.env): Promise<HubDefaults> {
  const home = homeFolder(env);
  return {
    endpoint: env["HF_ENDPOINT"] || publicEndpoint,
    cacheDir: expand(env["HF_HUB_CACHE"] || env["HUGGINGFACE_HUB_CACHE"] || path.join(home, "hub")),
    offline: isTrue(env["HF_HUB_OFFLINE"] || env["TRANSFORMERS_OFFLINE"]),
    token: cleanToken(env["HF_TOKEN"] || env["HUGGING_FACE_HUB_TOKEN"]) ?? (await tokenFile(env, home)),
  };
}

function homeFolder(env: NodeJS.ProcessEnv): string {
  const cache = env["XDG_CACHE_HOME"] || path.join(os.homedir(), ".cache");
  return expand(env["HF_HOME"] || path.join(cache, "huggingface"));
}

async function tokenFile(env: NodeJS.ProcessEnv, home: string): Promise<string | undefined> {
  const file = expand(env["HF_TOKEN_PATH"] || path.join(home, "token"));
  return cleanToken(await fs.readFile(file, "utf8").catch(() => undefined));
}

function cleanToken(text: string | undefined): string | undefined {
  return text?.replace(/[\r\n]/g, "").trim() || undefined;
}

function isTrue(text: string | undefined): boolean {
  return ["1", "on", "yes", "true"].includes((text ?? "").toLowerCase());
}

function expand(folder: string): string {
  return folder === "~" || folder.startsWith("~/") ? path.join(os.homedir(), folder.slice(1)) : folder;
}
