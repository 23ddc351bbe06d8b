// A parser for the part of WGSL that the kernels are written in. It trusts its input: Dawn's null backend checks the same texts.

/** A type as it is written: a name and its template arguments, which are types or expressions. */
export interface TypeName {
  readonly name: string;
  readonly args: readonly (TypeName | Expr)[];
  /** Of a struct. */
  readonly fields?: readonly Field[];
}

interface Field {
  readonly name: string;
  readonly type: TypeName;
}

export type Expr =
  | { readonly kind: "number"; readonly text: string }
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "name"; readonly name: string; readonly line: number }
  | { readonly kind: "index"; readonly base: Expr; readonly index: Expr }
  | { readonly kind: "member"; readonly base: Expr; readonly name: string }
  | { readonly kind: "call"; readonly callee: TypeName; readonly args: readonly Expr[]; readonly line: number }
  | { readonly kind: "unary"; readonly op: string; readonly of: Expr }
  | { readonly kind: "binary"; readonly op: string; readonly a: Expr; readonly b: Expr };

export type Statement =
  | { readonly kind: "declare"; readonly mutable: boolean; readonly name: string; readonly type?: TypeName; readonly value?: Expr }
  | { readonly kind: "assign"; readonly op: string; readonly to: Expr; readonly value: Expr }
  | { readonly kind: "call"; readonly call: Expr }
  | { readonly kind: "if"; readonly test: Expr; readonly then: Statement; readonly otherwise?: Statement }
  | {
      readonly kind: "for";
      readonly start?: Statement;
      readonly test?: Expr;
      readonly step?: Statement;
      readonly body: Statement;
    }
  | { readonly kind: "block"; readonly body: readonly Statement[] }
  | { readonly kind: "jump"; readonly word: "break" | "continue" }
  | { readonly kind: "return"; readonly value?: Expr };

export interface Variable {
  readonly name: string;
  readonly space: string;
  readonly writable: boolean;
  readonly binding: number;
  readonly group: number;
  readonly type: TypeName;
}

export interface Func {
  readonly name: string;
  readonly params: readonly { readonly name: string; readonly type: TypeName; readonly builtin?: string }[];
  readonly result?: TypeName;
  readonly body: Statement;
  /** Of the entry point. */
  readonly workgroup?: readonly number[];
}

export interface Module {
  readonly structs: ReadonlyMap<string, readonly Field[]>;
  readonly variables: readonly Variable[];
  readonly functions: ReadonlyMap<string, Func>;
}

interface Token {
  readonly text: string;
  readonly line: number;
}

const pattern =
  /\s+|\/\/[^\n]*|(0x[0-9a-fA-F]+[ui]?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[uifh]?|[A-Za-z_]\w*|<<=|>>=|->|\+\+|--|&&|\|\||<<|>>|[-+*/%&|^<>=!]=|[-+*/%&|^<>=!~()[\]{},;:.@])/gy;

function tokens(text: string): Token[] {
  const found: Token[] = [];
  let line = 1;
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match[1] !== undefined) found.push({ text: match[1], line });
    line += match[0].split("\n").length - 1;
    end = match.index + match[0].length;
  }
  if (end !== text.length) throw new Error(`wgsl line ${line}: cannot read ${text.slice(end, end + 20)}`);
  return found;
}

/** Names that a template list follows in expressions. */
const templated = /^(vec[234]|array|bitcast|atomic|ptr|subgroup_matrix_\w+|subgroupMatrix(Load|Store))$/;
const levels = [["||"], ["&&"], ["|"], ["^"], ["&"], ["==", "!="], ["<", ">", "<=", ">="], ["<<", ">>"], ["+", "-"], ["*", "/", "%"]];

class Parser {
  private at = 0;
  private readonly list: Token[];
  private readonly structs = new Map<string, readonly Field[]>();
  private readonly variables: Variable[] = [];
  private readonly functions = new Map<string, Func>();

  constructor(text: string) {
    this.list = tokens(text);
  }

  private get word(): string {
    return this.list[this.at]?.text ?? "";
  }

  private get line(): number {
    return this.list[this.at]?.line ?? 0;
  }

  private next(): string {
    return this.list[this.at++]?.text ?? "";
  }

  private has(word: string): boolean {
    if (this.word !== word) return false;
    this.at++;
    return true;
  }

  private expect(word: string): void {
    if (!this.has(word)) throw new Error(`wgsl line ${this.line}: ${word} expected, not ${this.word}`);
  }

  module(): Module {
    while (this.at < this.list.length) this.global();
    return { structs: this.structs, variables: this.variables, functions: this.functions };
  }

  private global(): void {
    const attributes = this.attributes();
    const word = this.next();
    if (word === "enable" || word === "diagnostic" || word === "requires") while (this.next() !== ";");
    else if (word === "struct") this.struct();
    else if (word === "var") this.variable(attributes);
    else if (word === "fn") this.func(attributes);
    else throw new Error(`wgsl line ${this.line}: ${word} is not understood here`);
  }

  private attributes(): Map<string, string[]> {
    const found = new Map<string, string[]>();
    while (this.has("@")) {
      const name = this.next();
      const args: string[] = [];
      if (this.has("(")) for (let w = this.next(); w !== ")"; w = this.next()) if (w !== ",") args.push(w);
      found.set(name, args);
    }
    return found;
  }

  private struct(): void {
    const name = this.next();
    const fields: Field[] = [];
    this.expect("{");
    while (!this.has("}")) {
      const field = this.next();
      this.expect(":");
      fields.push({ name: field, type: this.type() });
      this.has(",");
    }
    this.has(";");
    this.structs.set(name, fields);
  }

  private variable(attributes: Map<string, string[]>): void {
    const words: string[] = [];
    this.expect("<");
    for (let w = this.next(); w !== ">"; w = this.next()) words.push(w);
    const name = this.next();
    this.expect(":");
    const type = this.type();
    this.expect(";");
    const at = (key: string): number => Number(attributes.get(key)?.[0] ?? -1);
    this.variables.push({
      name,
      space: words[0]!,
      writable: words.includes("read_write"),
      binding: at("binding"),
      group: at("group"),
      type,
    });
  }

  private func(attributes: Map<string, string[]>): void {
    const name = this.next();
    const params: Func["params"][number][] = [];
    this.expect("(");
    while (!this.has(")")) {
      const builtin = this.attributes().get("builtin")?.[0];
      const param = this.next();
      this.expect(":");
      params.push({ name: param, type: this.type(), ...(builtin ? { builtin } : {}) });
      this.has(",");
    }
    const result = this.has("->") ? this.type() : undefined;
    const workgroup = attributes.get("workgroup_size")?.map((n) => Number.parseInt(n, 10));
    this.functions.set(name, { name, params, body: this.block(), ...(result ? { result } : {}), ...(workgroup ? { workgroup } : {}) });
  }

  private type(): TypeName {
    const name = this.next();
    const fields = this.structs.get(name);
    if (fields) return { name, args: [], fields };
    return { name, args: this.word === "<" ? this.templates() : [] };
  }

  private templates(): (TypeName | Expr)[] {
    const args: (TypeName | Expr)[] = [];
    this.expect("<");
    while (!this.closes()) {
      args.push(/^[A-Za-z_]/.test(this.word) ? this.type() : this.primary());
      this.has(",");
    }
    return args;
  }

  /** Takes one ">", also off a ">>". */
  private closes(): boolean {
    if (this.word === ">>") {
      this.list[this.at] = { text: ">", line: this.line };
      return true;
    }
    return this.has(">");
  }

  private block(): Statement {
    const body: Statement[] = [];
    this.expect("{");
    while (!this.has("}")) if (!this.has(";")) body.push(this.statement());
    return { kind: "block", body };
  }

  private statement(): Statement {
    if (this.word === "{") return this.block();
    if (this.has("if")) return this.branch();
    if (this.has("for")) return this.loop();
    if (this.has("while")) {
      const test = this.expr();
      return { kind: "for", test, body: this.block() };
    }
    if (this.has("return")) {
      const value = this.word === ";" ? undefined : this.expr();
      this.expect(";");
      return { kind: "return", ...(value ? { value } : {}) };
    }
    const simple = this.simple();
    this.expect(";");
    return simple;
  }

  private branch(): Statement {
    const test = this.expr();
    const then = this.block();
    if (!this.has("else")) return { kind: "if", test, then };
    return { kind: "if", test, then, otherwise: this.has("if") ? this.branch() : this.block() };
  }

  private loop(): Statement {
    this.expect("(");
    const start = this.word === ";" ? undefined : this.simple();
    this.expect(";");
    const test = this.word === ";" ? undefined : this.expr();
    this.expect(";");
    const step = this.word === ")" ? undefined : this.simple();
    this.expect(")");
    return { kind: "for", body: this.block(), ...(start ? { start } : {}), ...(test ? { test } : {}), ...(step ? { step } : {}) };
  }

  /** A statement that may also stand in the head of a loop. */
  private simple(): Statement {
    if (this.word === "break" || this.word === "continue") return { kind: "jump", word: this.next() as "break" };
    if (["var", "let", "const"].includes(this.word)) return this.declaration();
    const to = this.unary();
    if (to.kind === "call" && !/=$/.test(this.word)) return { kind: "call", call: to };
    const op = this.next();
    if (op === "++" || op === "--") return { kind: "assign", op: op[0]!, to, value: { kind: "number", text: "1" } };
    if (!/^(=|[-+*/%&|^]=|<<=|>>=)$/.test(op)) throw new Error(`wgsl line ${this.line}: assignment expected, not ${op}`);
    return { kind: "assign", op: op.slice(0, -1), to, value: this.expr() };
  }

  private declaration(): Statement {
    const mutable = this.next() === "var";
    const name = this.next();
    const type = this.has(":") ? this.type() : undefined;
    const value = this.has("=") ? this.expr() : undefined;
    return { kind: "declare", mutable, name, ...(type ? { type } : {}), ...(value ? { value } : {}) };
  }

  private expr(level = 0): Expr {
    const ops = levels[level];
    if (!ops) return this.unary();
    let a = this.expr(level + 1);
    while (ops.includes(this.word)) {
      const op = this.next();
      a = { kind: "binary", op, a, b: this.expr(level + 1) };
    }
    return a;
  }

  private unary(): Expr {
    if (["-", "!", "~", "&", "*"].includes(this.word)) return { kind: "unary", op: this.next(), of: this.unary() };
    let base = this.primary();
    for (;;) {
      if (this.has("[")) {
        base = { kind: "index", base, index: this.expr() };
        this.expect("]");
      } else if (this.has(".")) base = { kind: "member", base, name: this.next() };
      else return base;
    }
  }

  private primary(): Expr {
    const { line } = this;
    if (this.has("(")) {
      const inner = this.expr();
      this.expect(")");
      return inner;
    }
    const word = this.next();
    if (/^[\d.]/.test(word)) return { kind: "number", text: word };
    if (word === "true" || word === "false") return { kind: "bool", value: word === "true" };
    const args = templated.test(word) && this.word === "<" ? this.templates() : [];
    if (!this.has("(")) return { kind: "name", name: word, line };
    const values: Expr[] = [];
    while (!this.has(")")) {
      values.push(this.expr());
      this.has(",");
    }
    return { kind: "call", callee: { name: word, args }, args: values, line };
  }
}

/** Parses a module; throws an Error naming the line of what it does not know. */
export const parse = (text: string): Module => new Parser(text).module();
