// GPT-2's bijection between the 256 byte values and printable characters, the alphabet of byte-level BPE vocabularies.

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

function buildCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** The character that stands for each byte value. */
const byteCharacters: readonly string[] = buildCharacters();

const byteOfCharacter = new Map(byteCharacters.map((character, byte) => [character, byte]));
const encoder = new TextEncoder();

/** Spells the UTF-8 bytes of a text in byte characters. */
export function toByteCharacters(text: string): string {
  let out = "";
  for (const byte of encoder.encode(text)) out += byteCharacters[byte];
  return out;
}

/** Returns the bytes a token spells; a token with any other character stands for its own UTF-8 bytes. */
export function fromByteCharacters(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = byteOfCharacter.get(character);
    if (byte === undefined) return encoder.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
