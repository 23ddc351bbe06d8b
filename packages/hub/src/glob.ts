// File patterns: `*` and `?` stay inside a folder, `**` crosses folders, `{a,b}` is a choice. Nothing else.

/** Whether `pattern` needs matching, rather than being one file's path. */
export function isGlob(pattern: string): boolean {
  return /[*?{]/.test(pattern);
}

/** Returns the paths that match `pattern`, in the order given. */
export function matchGlob(pattern: string, paths: Iterable<string>): string[] {
  const expression = globExpression(pattern);
  return [...paths].filter((path) => expression.test(path));
}

function globExpression(pattern: string): RegExp {
  const tokens = pattern.match(/\*\*\/|\*+|\?|\{[^{}]*\}|[^*?{]+|\{/g) ?? [];
  return new RegExp(`^${tokens.map(tokenExpression).join("")}$`);
}

function tokenExpression(token: string): string {
  if (token === "**/") return "(?:[^/]+/)*";
  if (token.startsWith("**")) return ".*";
  if (token === "*") return "[^/]*";
  if (token === "?") return "[^/]";
  if (token.length > 1 && token.startsWith("{")) return `(?:${token.slice(1, -1).split(",").map(literal).join("|")})`;
  return literal(token);
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
