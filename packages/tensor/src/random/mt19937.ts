// The Mersenne Twister as PyTorch's CPU generator runs it (pytorch: aten/src/ATen/core/MT19937RNGEngine.h), with its saved state.

const STATE_WORDS = 624;
const MIDDLE = 397;

/** The generator behind torch's and NumPy's CPU streams: 32-bit words of a 19,937-bit state. */
export class Mt19937 {
  private readonly words: Uint32Array;
  /** Words left before a refill, plus one; a new generator has 1. */
  private left: number;
  private next: number;

  private constructor(words: Uint32Array, left: number, next: number) {
    this.words = words;
    this.left = left;
    this.next = next;
  }

  /** Seeds with the low 32 bits of `seed`, as PyTorch does. */
  static seeded(seed: bigint): Mt19937 {
    const words = new Uint32Array(STATE_WORDS);
    words[0] = Number(seed & 0xffffffffn);
    for (let j = 1; j < STATE_WORDS; j++) {
      const previous = words[j - 1]!;
      words[j] = Math.imul(1812433253, previous ^ (previous >>> 30)) + j;
    }
    return new Mt19937(words, 1, 0);
  }

  /** Continues from 624 words, the count of words left plus one (1…624), and the index of the next one. */
  static resumed(words: Uint32Array, left: number, next: number): Mt19937 {
    return new Mt19937(words.slice(0, STATE_WORDS), left, next);
  }

  /** What `resumed` takes; the words are a copy. */
  snapshot(): { readonly words: Uint32Array; readonly left: number; readonly next: number } {
    return { words: this.words.slice(), left: this.left, next: this.next };
  }

  /** The next 32-bit word, unsigned. */
  word(): number {
    if (--this.left === 0) this.refill();
    let y = this.words[this.next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private refill(): void {
    const s = this.words;
    for (let i = 0; i < STATE_WORDS; i++) {
      const following = s[i + 1 === STATE_WORDS ? 0 : i + 1]!;
      const mixed = (s[i]! & 0x80000000) | (following & 0x7fffffff);
      const partner = s[i < STATE_WORDS - MIDDLE ? i + MIDDLE : i + MIDDLE - STATE_WORDS]!;
      s[i] = partner ^ (mixed >>> 1) ^ (following & 1 ? 0x9908b0df : 0);
    }
    this.left = STATE_WORDS;
    this.next = 0;
  }
}
