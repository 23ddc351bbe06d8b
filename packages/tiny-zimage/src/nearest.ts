// Finds trained names close to a prompt, so that "a fluffy foxx" can be answered with "fox". Words are compared by edit
// distance, names by how well their words cover the prompt's and the other way round.
import { names, type TinyZImageName } from "./names.ts";

/** Words of the caption templates the model was trained with; they say nothing about the subject. */
const fillers = new Set("a an the of emoji 3d icon picture photo drawing cute on white background render".split(" "));

/** Lower-case words of `text`, without template words unless nothing else is left. */
function subjectWords(text: string): string[] {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const subject = words.filter((word) => !fillers.has(word));
  return subject.length > 0 ? subject : [...words];
}

/** Number of single-character insertions, deletions and replacements that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** How alike two words are, from 0 to 1; below half the letters in common it is 0. */
function wordSimilarity(a: string, b: string): number {
  const similarity = 1 - editDistance(a, b) / Math.max(a.length, b.length);
  return similarity < 0.5 ? 0 : similarity;
}

/** Mean over the words of `from` of the best match among `to`. */
function coverage(from: readonly string[], to: readonly string[]): number {
  const best = from.map((word) => Math.max(0, ...to.map((other) => wordSimilarity(word, other))));
  return best.reduce((sum, value) => sum + value, 0) / Math.max(1, best.length);
}

const wordsOfNames = names.map((name) => ({ name, words: subjectWords(name) }));

/**
 * The `count` trained names closest to `prompt`, best first; fewer, or none, when nothing resembles it.
 * A prompt made of a name and template words ("an emoji of a fox") gives that name first.
 */
export function nearestNames(prompt: string, count = 3): TinyZImageName[] {
  const words = subjectWords(prompt.slice(0, 1000));
  const scored = wordsOfNames.map(({ name, words: own }) => ({ name, score: coverage(words, own) + coverage(own, words) }));
  const close = scored.filter(({ score }) => score > 0.6).sort((a, b) => b.score - a.score);
  return close.slice(0, count).map(({ name }) => name);
}

/** Whether `prompt` is a trained name, alone or in one of the templates ("a fox", "fox emoji"); other prompts give a blend. */
export function isTrainedPrompt(prompt: string): boolean {
  const words = subjectWords(prompt).join(" ");
  return wordsOfNames.some(({ words: own }) => own.join(" ") === words);
}
