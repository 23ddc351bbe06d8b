// Which repository ids, revisions, file names and hashes are let in. Everything that becomes part of a local path passes here.
import { InvalidNameError, UnsafePathError } from "./errors.ts";

const repoId = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(\/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$/;

/** Returns `repo` if it reads `org/name` (or a bare `name`); throws `InvalidNameError` otherwise. */
export function checkRepoId(repo: string): string {
  if (repoId.test(repo) && !repo.includes("..") && !repo.includes("--")) return repo;
  throw new InvalidNameError("huggingFace", `${JSON.stringify(repo)} is not a repository id; write "org/name"`);
}

/** Returns `revision` if it can be a branch, tag, `refs/pr/1` or commit; throws `InvalidNameError` otherwise. */
export function checkRevision(revision: string): string {
  const plain = /^[A-Za-z0-9._/+-]{1,200}$/.test(revision) && revision.split("/").every(isPlainSegment);
  if (plain) return revision;
  throw new InvalidNameError("huggingFace", `${JSON.stringify(revision)} is not a branch, tag or commit; try revision: "main"`);
}

/** Whether `revision` is a full commit hash, which never moves. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Returns `path` if it stays inside its folder (relative, forward slashes, no `..`); throws `UnsafePathError` otherwise. */
export function checkFilePath(op: string, path: string): string {
  const safe = path.length > 0 && path.length <= 1024 && !hasControlOr(path, "\\:") && path.split("/").every(isPlainSegment);
  if (safe) return path;
  throw new UnsafePathError(op, `file name ${JSON.stringify(path.slice(0, 200))} would leave its folder or is no portable name`);
}

/** Returns an etag that is safe as a file name; throws `UnsafePathError` otherwise. */
export function checkEtag(op: string, etag: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/.test(etag)) return etag;
  throw new UnsafePathError(op, `the server's etag ${JSON.stringify(etag.slice(0, 200))} cannot name a file`);
}

/** Strips the quotes and the weak mark of an HTTP ETag. */
export function plainEtag(header: string): string {
  return header.replace(/^W\//, "").replace(/^"|"$/g, "");
}

function isPlainSegment(segment: string): boolean {
  return segment !== "" && segment !== "." && segment !== "..";
}

function hasControlOr(text: string, forbidden: string): boolean {
  for (const char of text) if (char < " " || char === "\u007f" || forbidden.includes(char)) return true;
  return false;
}
