// Translates the text of a kernel into JavaScript: a factory of its entry point over the dispatch's memories. Functions with barriers or subgroup
// operations become generators that hand them to the scheduler (workgroup.ts).
import { builtinCall, type Value } from "./builtins.ts";
import { type Expr, type Func, type Module, parse, type Statement, type TypeName, type Variable } from "./syntax.ts";
import {
  bytesOfType,
  concrete,
  countOf,
  isComparison,
  nothing,
  operation,
  rounded,
  type ScalarName,
  scalar,
  scalarOf,
  type Type,
  typeOf,
  vector,
  zero,
} from "./types.ts";

/** A place where invocations of a subgroup or workgroup meet. */
export interface Site {
  readonly op: string;
  readonly line: number;
  readonly type?: Type;
  readonly order?: string;
}

export interface Kernel {
  /** Variables in memory, in the order of the factory's argument. */
  readonly variables: readonly Variable[];
  /** Names and types of the parameters, all of them 32-bit words, and whether they are immediates. */
  readonly params: readonly { readonly name: string; readonly type: string }[];
  readonly immediates: boolean;
  readonly entry: Func;
  readonly meets: boolean;
  readonly sites: readonly Site[];
  readonly code: string;
}

/** Operations that several invocations carry out together. */
const meeting = /^(workgroupBarrier|storageBarrier|workgroupUniformLoad|subgroup[A-Z]\w*)$/;

interface Local {
  readonly js: string;
  readonly type: Type;
}

export class Compiler {
  readonly module: Module;
  readonly sites: Site[] = [];
  private readonly meets: ReadonlySet<string>;
  private readonly vectorOps = new Map<string, string>();
  private scopes: Map<string, Local>[] = [];
  private result: Type = nothing;
  private names = 0;

  constructor(text: string) {
    this.module = parse(text);
    this.meets = meetingFunctions(this.module);
  }

  kernel(): Kernel {
    const entry = [...this.module.functions.values()].find((f) => f.workgroup);
    if (!entry) throw new Error("wgsl: no entry point");
    const functions = [...this.module.functions.values()].map((f) => this.func(f));
    const memories = shared(this.module).map((v, i) => `const m_${v.name} = memories[${i}];`);
    const own = this.module.variables.filter((v) => v.space === "private").map((v) => `$.${v.name} = ${zero(typeOf(v.type))};`);
    const helpers = [...this.vectorOps].map(([name, js]) => `const ${name} = ${js};`);
    const code = `const { F, H } = R;\n${memories.join("\n")}\n${helpers.join("\n")}\n${functions.join("\n")}\nreturn { main: w_${entry.name}, start: ($) => { ${own.join(" ")} } };`;
    const params = (this.module.structs.get("Params") ?? []).map((f) => ({ name: f.name, type: f.type.name }));
    const immediates = this.module.variables.some((v) => v.space === "immediate");
    return { variables: shared(this.module), params, immediates, entry, meets: this.meets.has(entry.name), sites: this.sites, code };
  }

  private func({ name, params, result, body }: Func): string {
    this.result = result ? typeOf(result) : nothing;
    const scope = new Map(params.map((p) => [p.name, { js: this.fresh(p.name), type: typeOf(p.type) }]));
    this.scopes = [scope];
    const list = ["$", ...[...scope.values()].map((l) => l.js)].join(", ");
    return `function${this.meets.has(name) ? "*" : ""} w_${name}(${list}) ${this.statement(body)}`;
  }

  private fresh(name: string): string {
    return `${name}_${this.names++}`;
  }

  private find(name: string): Local | undefined {
    for (const scope of this.scopes.toReversed()) {
      const local = scope.get(name);
      if (local) return local;
    }
    return undefined;
  }

  private inScope(f: () => string): string {
    this.scopes.push(new Map());
    const js = f();
    this.scopes.pop();
    return js;
  }

  private statement(s: Statement): string {
    switch (s.kind) {
      case "block":
        return this.inScope(() => `{ ${s.body.map((x) => this.statement(x)).join("\n")} }`);
      case "declare":
        return this.declare(s);
      case "assign":
        return this.assign(s);
      case "call":
        return `${this.expr(s.call).js};`;
      case "if": {
        const otherwise = s.otherwise ? ` else ${this.statement(s.otherwise)}` : "";
        return `if (${this.expr(s.test).js}) ${this.statement(s.then)}${otherwise}`;
      }
      case "for":
        return this.inScope(() => {
          const start = s.start ? this.statement(s.start).replace(/;$/, "") : "";
          const step = s.step ? this.statement(s.step).replace(/;$/, "") : "";
          return `for (${start}; ${s.test ? this.expr(s.test).js : ""}; ${step}) ${this.statement(s.body)}`;
        });
      case "jump":
        return `${s.word};`;
      case "return":
        return s.value ? `return ${this.as(this.expr(s.value), this.result)};` : "return;";
    }
  }

  private declare({ name, type, value }: Statement & { kind: "declare" }): string {
    const given = value ? this.expr(value) : undefined;
    const known = type ? typeOf(type) : concrete(given!.type);
    const js = this.fresh(name);
    const text = given ? this.copied(given, known) : zero(known);
    this.scopes.at(-1)!.set(name, { js, type: known });
    return `let ${js} = ${text};`;
  }

  /** Vectors and arrays are values: a second name for one gets a copy. */
  private copied(v: Value, type: Type): string {
    const js = this.as(v, type);
    return ["vector", "array", "struct"].includes(type.kind) && /^[\w$.[\]]+$/.test(js) ? `${js}.slice()` : js;
  }

  private assign({ op, to, value }: Statement & { kind: "assign" }): string {
    if (to.kind === "name" && to.name === "_") return `${this.expr(value).js};`;
    const target = this.place(to);
    if (!target) throw new Error("wgsl: assignment to a value");
    const right = op ? this.binary(op, this.load(target), this.expr(value)) : this.expr(value);
    if (target.memory) return `${this.store(target, this.as(right, target.type))};`;
    return `${target.js} = ${this.copied(right, target.type)};`;
  }

  /** Something that can be assigned to: a local (js) or a place in memory; undefined for other expressions. */
  place(e: Expr): Value | undefined {
    if (e.kind === "name") {
      const local = this.find(e.name);
      if (local) return local;
      const variable = this.module.variables.find((v) => v.name === e.name);
      if (!variable) throw new Error(`wgsl line ${e.line}: unknown name ${e.name}`);
      if (!inMemory(variable.space)) return undefined;
      if (variable.space === "private") return { js: `$.${e.name}`, type: typeOf(variable.type) };
      return { js: "", memory: `m_${e.name}`, at: "0", type: typeOf(variable.type) };
    }
    if (e.kind === "index") return this.indexed(this.place(e.base) ?? this.expr(e.base), this.as(this.expr(e.index), undefined));
    return e.kind === "member" ? this.memberPlace(this.place(e.base), e.name) : undefined;
  }

  private memberPlace(base: Value | undefined, name: string): Value | undefined {
    if (base?.type.kind === "vector" && name.length === 1) return this.indexed(base, String(swizzle(name)[0]));
    if (base?.type.kind !== "struct") return undefined;
    const i = base.type.fields.findIndex((f) => f.name === name);
    const type = scalar(base.type.fields[i]!.of);
    return base.memory ? { ...base, at: `${base.at} + ${4 * i}`, type } : { js: `${base.js}[${i}]`, type };
  }

  private indexed(base: Value, index: string): Value {
    const { type } = base;
    const element = type.kind === "array" ? type.of : type.kind === "vector" ? scalar(type.of) : undefined;
    if (!element) throw new Error(`wgsl: ${type.kind} cannot be indexed`);
    const count = (type as { count?: number }).count;
    if (!base.memory) return { js: `${base.js}[R.index(${index}, ${count})]`, type: element };
    const stride = bytesOfType(element);
    const limit = count ?? `R.countOf(${base.memory}, ${stride})`;
    return { js: "", memory: base.memory, at: `${base.at} + R.index(${index}, ${limit}, ${base.memory}) * ${stride}`, type: element };
  }

  load(v: Value): Value {
    if (!v.memory) return v;
    const read = (t: Type, at: string): string => {
      if (t.kind === "scalar") return `${v.memory}.${t.of}($, ${at})`;
      if (t.kind === "vector") return `R.vector(${v.memory}, "${t.of}", ${t.count}, $, ${at})`;
      if (t.kind === "array") {
        const items = Array.from({ length: t.count! }, (_, i) => read(t.of, `base + ${i * bytesOfType(t.of)}`));
        return `((base) => [${items.join(", ")}])(${at})`;
      }
      if (t.kind === "struct") return `((base) => [${t.fields.map((f, i) => read(scalar(f.of), `base + ${4 * i}`)).join(", ")}])(${at})`;
      throw new Error(`wgsl: cannot read ${t.kind}`);
    };
    return { js: read(v.type, v.at!), type: v.type };
  }

  private store({ memory, at, type }: Value, js: string): string {
    if (type.kind === "scalar") return `${memory}.set_${type.of}($, ${at}, ${js})`;
    if (type.kind === "vector") return `R.setVector(${memory}, "${type.of}", ${type.count}, $, ${at}, ${js})`;
    if (type.kind === "array") return `R.setArray(${memory}, ${JSON.stringify(type)}, $, ${at}, ${js})`;
    if (type.kind === "struct") return `R.setStruct(${memory}, ${JSON.stringify(type.fields.map((f) => f.of))}, $, ${at}, ${js})`;
    throw new Error(`wgsl: cannot store ${type.kind}`);
  }

  expr(e: Expr): Value {
    switch (e.kind) {
      case "number":
        return literal(e.text);
      case "bool":
        return { js: String(e.value), type: scalar("bool") };
      case "name":
      case "index": {
        const place = this.place(e);
        if (!place) throw new Error(`wgsl: ${JSON.stringify(e)} is not a value`);
        return this.load(place);
      }
      case "member":
        return this.member(e.base, e.name);
      case "unary":
        return this.unary(e.op, this.expr(e.of));
      case "binary":
        return this.binary(e.op, this.expr(e.a), this.expr(e.b));
      case "call":
        return this.call(e.callee, e.args, e.line);
    }
  }

  private member(base: Expr, name: string): Value {
    if (base.kind === "name" && !this.find(base.name)) {
      const variable = this.module.variables.find((v) => v.name === base.name);
      const field = variable && this.module.structs.get(variable.type.name)?.find((f) => f.name === name);
      if (field) return { js: `params.${name}`, type: typeOf(field.type) };
    }
    const place = this.memberPlace(this.place(base), name);
    if (place) return this.load(place);
    const value = this.expr(base);
    if (value.type.kind === "struct") return this.memberPlace(value, name)!;
    if (value.type.kind !== "vector") throw new Error(`wgsl: ${name} of ${value.type.kind}`);
    const lanes = swizzle(name);
    if (lanes.length === 1) return { js: `${value.js}[${lanes[0]}]`, type: scalar(value.type.of) };
    return { js: `((v) => [${lanes.map((l) => `v[${l}]`).join(", ")}])(${value.js})`, type: vector(value.type.of, lanes.length) };
  }

  private unary(op: string, v: Value): Value {
    const of = scalarOf(v.type);
    const one = (x: string): string => (op === "!" ? `(!${x})` : rounded(of, `${op}${x}`));
    if (v.type.kind !== "vector") return { js: one(v.js), type: v.type };
    return { js: `${v.js}.map((x) => ${one("x")})`, type: v.type };
  }

  binary(op: string, left: Value, right: Value): Value {
    if (op === "&&" || op === "||") return { js: `(${left.js} ${op} ${right.js})`, type: scalar("bool") };
    const shift = op === "<<" || op === ">>";
    const of = shift ? scalarOf(concrete(left.type)) : common(scalarOf(left.type), scalarOf(right.type));
    const count = Math.max(countOf(left.type), countOf(right.type));
    const cast = (v: Value, s: ScalarName): string => this.as(v, v.type.kind === "vector" ? vector(s, count) : scalar(s));
    const [a, b] = [cast(left, of), shift ? cast(right, scalarOf(right.type)) : cast(right, of)];
    const out: ScalarName = isComparison(op) ? "bool" : of;
    if (count === 1) return { js: operation(op, of, a, b), type: scalar(out) };
    const [va, vb] = [left, right].map((v) => v.type.kind === "vector");
    return { js: `${this.vectorOp(op, of, count, va!, vb!)}(${a}, ${b})`, type: vector(out, count) };
  }

  private vectorOp(op: string, of: ScalarName, count: number, va: boolean, vb: boolean): string {
    const name = `v${[...op].map((c) => c.charCodeAt(0)).join("_")}${of}${count}${va ? "v" : "s"}${vb ? "v" : "s"}`;
    const lanes = Array.from({ length: count }, (_, i) => operation(op, of, va ? `a[${i}]` : "a", vb ? `b[${i}]` : "b"));
    this.vectorOps.set(name, `(a, b) => [${lanes.join(", ")}]`);
    return name;
  }

  private call({ name, args: templates }: TypeName, args: readonly Expr[], line: number): Value {
    const func = this.module.functions.get(name);
    if (!func) {
      if (meeting.test(name)) return this.meet(name, templates, args, line);
      return builtinCall(this, name, templates, args, line);
    }
    const values = args.map((a, i) => this.copied(this.expr(a), typeOf(func.params[i]!.type)));
    const js = `w_${name}(${["$", ...values].join(", ")})`;
    return { js: this.meets.has(name) ? `(yield* ${js})` : js, type: func.result ? typeOf(func.result) : nothing };
  }

  private site(site: Site): number {
    this.sites.push(site);
    return this.sites.length - 1;
  }

  private meet(op: string, templates: readonly (TypeName | Expr)[], args: readonly Expr[], line: number): Value {
    const request = (site: Site, ...parts: string[]): string => `(yield [${[this.site(site), ...parts].join(", ")}])`;
    if (/Barrier$/.test(op)) return { js: request({ op, line }), type: nothing };
    const pointer = (e: Expr): Value => {
      const v = e.kind === "unary" && e.op === "&" ? this.place(e.of) : undefined;
      if (!v?.memory) throw new Error(`wgsl line ${line}: a pointer to memory expected`);
      return v;
    };
    const number = (e: Expr): string => this.as(this.expr(e), scalar("u32"));
    if (op === "workgroupUniformLoad") {
      const p = pointer(args[0]!);
      const type = p.type.kind === "atomic" ? scalar(p.type.of) : p.type;
      return { js: request({ op, line, type }, p.memory!, p.at!), type };
    }
    if (op === "subgroupMatrixLoad") {
      const p = pointer(args[0]!);
      const type = typeOf(templates[0]!);
      const order = (templates[1] as TypeName).name;
      const unit = bytesOfType((p.type as Type & { kind: "array" }).of);
      return {
        js: request({ op, line, type, order }, p.memory!, `${p.at} + ${number(args[1]!)} * ${unit}`, `${number(args[2]!)} * ${unit}`),
        type,
      };
    }
    if (op === "subgroupMatrixStore") {
      const p = pointer(args[0]!);
      const unit = bytesOfType((p.type as Type & { kind: "array" }).of);
      const order = (templates[0] as TypeName).name;
      const [at, value, stride] = [number(args[1]!), this.expr(args[2]!).js, number(args[3]!)];
      return { js: request({ op, line, order }, p.memory!, `${p.at} + ${at} * ${unit}`, `${stride} * ${unit}`, value), type: nothing };
    }
    const values = args.map((a) => this.expr(a));
    const type = op === "subgroupMatrixMultiplyAccumulate" ? values[2]!.type : concrete(values[0]!.type);
    return { js: request({ op, line, type }, ...values.map((v) => v.js)), type };
  }

  /** Text of a value as a type that literals may have to take. */
  as(v: Value, to: Type | undefined): string {
    const from = scalarOf(v.type);
    if (from !== "whole" && from !== "real") return v.js;
    const of = to ? scalarOf(to) : "i32";
    return v.type.kind === "vector" ? `${v.js}.map((x) => ${rounded(of, "x")})` : rounded(of, v.js);
  }
}

const shared = (module: Module): Variable[] => module.variables.filter((v) => v.space === "workgroup" || v.space === "storage");
const inMemory = (space: string): boolean => space === "workgroup" || space === "storage" || space === "private";

/** The functions that meet other invocations, themselves or in what they call. */
function meetingFunctions({ functions }: Module): ReadonlySet<string> {
  const found = new Set<string>();
  const texts = [...functions].map(([name, f]) => [name, new Set(JSON.stringify(f.body).match(/(?<="callee":\{"name":")\w+/g))] as const);
  for (let grown = true; grown; ) {
    grown = false;
    for (const [name, calls] of texts) {
      if (found.has(name) || ![...calls].some((c) => meeting.test(c) || found.has(c))) continue;
      found.add(name);
      grown = true;
    }
  }
  return found;
}

function common(a: ScalarName, b: ScalarName): ScalarName {
  if (a === b) return a;
  if (a === "whole" || (a === "real" && b !== "whole")) return b;
  if (b === "whole" || b === "real") return a;
  throw new Error(`wgsl: ${a} with ${b}`);
}

function literal(text: string): Value {
  const suffix = /^0x/.test(text) ? /[ui]$/.exec(text)?.[0] : /[uifh]$/.exec(text)?.[0];
  const digits = suffix ? text.slice(0, -1) : text;
  const of: ScalarName = suffix
    ? ({ u: "u32", i: "i32", f: "f32", h: "f16" } as const)[suffix as "u"]
    : /^0x/.test(digits) || /^\d+$/.test(digits)
      ? "whole"
      : "real";
  return { js: rounded(of, digits.replace(/^0+(?=\d)/, "")), type: scalar(of) };
}

const swizzle = (name: string): number[] => [...name].map((c) => Math.max("xyzw".indexOf(c), "rgba".indexOf(c)));
