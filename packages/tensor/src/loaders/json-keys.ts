// The top-level keys of a JSON object in order, repeats included: JSON.parse keeps only the last of a repeated name.

/** Index just past the string that starts at `i` (a quote). */
function skipString(text: string, i: number): number {
  i++;
  while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i + 1;
}

/** First top-level key that occurs twice in `text`, which must be valid JSON of an object. */
export function repeatedKey(text: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  for (let i = 0; i < text.length; ) {
    const c = text[i]!;
    if (c !== '"') {
      if (c === "{" || c === "[") depth++;
      else if (c === "}" || c === "]") depth--;
      i++;
      continue;
    }
    const end = skipString(text, i);
    if (depth === 1 && isKey(text, end)) {
      const key = JSON.parse(text.slice(i, end)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
    }
    i = end;
  }
  return undefined;
}

function isKey(text: string, i: number): boolean {
  while (text[i] === " " || text[i] === "\n" || text[i] === "\t" || text[i] === "\r") i++;
  return text[i] === ":";
}
