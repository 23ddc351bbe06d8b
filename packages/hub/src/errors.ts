// Every error this package throws on purpose, one class per remedy.
// Text: `<op>: <what is wrong>: <repository, file, sizes>; <what to do>`. An abort is the caller's own signal reason, never one of these.

/** Base of every error of the hub package; `op` names the call that failed. */
export class HubError extends Error {
  /** The call that failed. */
  readonly op: string;
  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(`${op}: ${detail}`, options);
    this.name = new.target.name;
    this.op = op;
  }
}

/** A repository id, revision, glob or option is not of the expected form. */
export class InvalidNameError extends HubError {}
/** A file name, hash or reference from a server or caller would leave the folder it belongs to. */
export class UnsafePathError extends HubError {}
/** The repository does not exist, or is private and the token does not open it. */
export class RepoNotFoundError extends HubError {}
/** The repository exists but its licence must be accepted first. */
export class GatedRepoError extends HubError {}
/** The server refused the token (401 or 403). */
export class AccessDeniedError extends HubError {}
/** The branch, tag or commit does not exist. */
export class RevisionNotFoundError extends HubError {}
/** The repository or folder has no such file. */
export class EntryNotFoundError extends HubError {}
/** A pattern that must name one file matches several. */
export class AmbiguousPathError extends HubError {}
/** The server could not be reached, or stopped answering. */
export class NetworkError extends HubError {}
/** The server answered with a status that has no class of its own. */
export class HttpStatusError extends HubError {
  /** What the server answered. */
  readonly status: number;
  constructor(op: string, detail: string, status: number) {
    super(op, detail);
    this.status = status;
  }
}
/** The server answered with a web page or malformed JSON instead of the data. */
export class UnexpectedAnswerError extends HubError {}
/** The server sends the whole file although a byte range was asked for. */
export class RangeIgnoredError extends HubError {}
/** Fewer bytes arrived, or are on disk, than the file has. */
export class TruncatedError extends HubError {}
/** The file on the server changed while it was read. */
export class RemoteChangedError extends HubError {}
/** The bytes do not have the hash the repository states. */
export class HashMismatchError extends HubError {}
/** The network is off (or down) and the cache does not hold what was asked for. */
export class OfflineError extends HubError {}
/** The disk has no room for the file. */
export class DiskFullError extends HubError {}
/** The cache folder or a file in it cannot be written or read. */
export class CacheAccessError extends HubError {}
/** A read outside the file, or of a closed source. */
export class ReadRangeError extends HubError {}
/** The call needs something this environment (mostly: a browser) does not have. */
export class UnsupportedError extends HubError {}
