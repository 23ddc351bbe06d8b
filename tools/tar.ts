// Reads the regular files of an uncompressed ustar archive held in memory. No dependency does this without streams.

/** One regular file of a tar archive. */
export interface TarEntry {
  readonly name: string;
  readonly data: Uint8Array;
}

const blockBytes = 512;

/** Yields the regular files of `archive` in order, names without a leading "./". Throws RangeError when it is cut short. */
export function* readTar(archive: Uint8Array): Generator<TarEntry> {
  const text = (from: number, length: number) => {
    const field = archive.subarray(from, from + length);
    const end = field.indexOf(0);
    return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  };
  for (let at = 0; at + blockBytes <= archive.length && archive[at] !== 0; ) {
    const sizeBytes = Number.parseInt(text(at + 124, 12).trim(), 8);
    const start = at + blockBytes;
    if (!(start + sizeBytes <= archive.length)) throw new RangeError(`readTar: archive ends inside ${text(at, 100)}`);
    const type = archive[at + 156];
    if (type === 0 || type === 0x30) yield { name: text(at, 100).replace(/^\.\//, ""), data: archive.subarray(start, start + sizeBytes) };
    at = start + Math.ceil(sizeBytes / blockBytes) * blockBytes;
  }
}
