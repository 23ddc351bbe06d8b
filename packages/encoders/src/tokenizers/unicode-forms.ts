// Unicode normalization forms as the Rust tokenizers have them. Their tables are Unicode 9's (crate
// unicode-normalization-alignments), so characters that came later neither reorder nor compose there, while JavaScript
// engines follow newer tables, each its own. Found by comparing all code points with tokenizers 0.23.3 against Unicode 17.

/** Code points later than Unicode 9 with a combining class, as ranges of a character class. */
const laterMarks =
  "07fd 0897-089f 08ca-08d3 09fe 0c3c 0d3b-0d3c 0eba 1715 1abf-1add 1ae0-1aeb 1df6-1dfa a82c 10d24-10d27 10d69-10d6d 10eab-10eac " +
  "10efa-10efb 10efd-10eff 10f46-10f50 10f82-10f85 11070 1133b 113ce-113d0 1145e 11839-1183a 1193d-1193e 11943 119e0 11a34 11a47 11a99 " +
  "11d42 11d44-11d45 11d97 11f41-11f42 1612f 16ff0-16ff1 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 " +
  "1e6ee-1e6ef 1e6f5";

/** Code points later than Unicode 9 that are composed of others, and the first part of each. */
const laterComposites =
  "105c9 105d2 105da 105e4 11382-11385 1138b 1138e 11390-11391 113c2 113c5 113c7-113c8 11935 11938 1611e-16129 16d63 16d67-16d6a";

function characterClass(ranges: string): string {
  return ranges.split(" ").map(classRange).join("");
}

function classRange(range: string): string {
  return range
    .split("-")
    .map((hex) => `\\u{${hex}}`)
    .join("-");
}

const knownStretches = new RegExp(`[^${characterClass(`${laterMarks} ${laterComposites}`)}]+`, "gu");

/** Brings a text to a normalization form, characters later than Unicode 9 left as they stand. */
export function normalizeForm(text: string, form: "NFC" | "NFD" | "NFKC" | "NFKD"): string {
  return text.replace(knownStretches, (stretch) => stretch.normalize(form));
}
