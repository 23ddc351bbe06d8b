// A picture in a terminal: two pixels per character as coloured half blocks, or a PNG inline where the terminal can show one.
import { flatten, type Image } from "./image.ts";
import { resize } from "./resize.ts";

/** Inline image protocols of terminals. */
export type InlineProtocol = "kitty" | "iterm2";

/**
 * A picture as lines of half-block characters in 24-bit colour, `columns` wide; each character is two pixels, one above the
 * other, so the picture keeps its shape. Every line ends with a colour reset.
 */
export function halfBlocks(image: Image, columns: number): string {
  const rows = Math.max(1, Math.round((columns * image.height) / image.width / 2));
  const { rgb } = resize(flatten(image, [0, 0, 0]), columns, rows * 2, "box");
  const lines = Array.from({ length: rows }, (_, row) => {
    const top = row * 2 * columns * 3;
    return `${blockLine(rgb.subarray(top, top + columns * 3), rgb.subarray(top + columns * 3, top + columns * 6))}\x1b[0m`;
  });
  return lines.join("\n");
}

/** The inline image protocol that a terminal's environment variables promise, or `undefined`. */
export function inlineProtocol(env: Readonly<Record<string, string | undefined>>): InlineProtocol | undefined {
  if (env["TMUX"] || env["STY"]) return undefined; // Multiplexers swallow the pictures.
  if (env["KITTY_WINDOW_ID"] || env["TERM"] === "xterm-kitty" || env["TERM_PROGRAM"] === "ghostty") return "kitty";
  return env["TERM_PROGRAM"] === "iTerm.app" || env["TERM_PROGRAM"] === "WezTerm" ? "iterm2" : undefined;
}

/** The escape sequence that shows a PNG `columns` characters wide at the cursor. */
export function inlinePng(png: Uint8Array, columns: number, protocol: InlineProtocol): string {
  const data = base64(png);
  if (protocol === "iterm2") return `\x1b]1337;File=inline=1;size=${png.length};width=${columns};preserveAspectRatio=1:${data}\x07`;
  const pieces = data.match(/.{1,4096}/gs) ?? [];
  return pieces
    .map((piece, i) => {
      const more = i < pieces.length - 1 ? 1 : 0;
      return `\x1b_G${i === 0 ? `a=T,f=100,c=${columns},` : ""}m=${more};${piece}\x1b\\`;
    })
    .join("");
}

function blockLine(upper: Uint8Array, lower: Uint8Array): string {
  let line = "";
  let colours = "";
  for (let i = 0; i < upper.length; i += 3) {
    const next = `\x1b[38;2;${upper.subarray(i, i + 3).join(";")};48;2;${lower.subarray(i, i + 3).join(";")}m`;
    line += `${next === colours ? "" : next}▀`;
    colours = next;
  }
  return line;
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(text);
}
