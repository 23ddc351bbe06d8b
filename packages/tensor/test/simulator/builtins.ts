// WGSL's own functions, constructors and conversions as JavaScript text; R is runtime.ts.
import type { Expr, Module, TypeName } from "./syntax.ts";
import { concrete, countOf, nothing, rounded, type ScalarName, scalar, scalarOf, type Type, typeOf, vector, zero } from "./types.ts";

/** An expression's text and type; `memory` and `at` where it is a place in memory. */
export interface Value {
  readonly js: string;
  readonly type: Type;
  readonly memory?: string;
  readonly at?: string;
}

/** The compiler, as far as calls need it. */
export interface Compiler {
  readonly module: Module;
  expr(e: Expr): Value;
  place(e: Expr): Value | undefined;
  as(v: Value, to: Type | undefined): string;
}

/** Functions that act on each component, as text over the components' texts; results are rounded to the type. */
const each: Readonly<Record<string, (...x: string[]) => string>> = {
  min: (a, b) => `Math.min(${a}, ${b})`,
  max: (a, b) => `Math.max(${a}, ${b})`,
  clamp: (x, low, high) => `Math.min(Math.max(${x}, ${low}), ${high})`,
  abs: (x) => `Math.abs(${x})`,
  floor: (x) => `Math.floor(${x})`,
  ceil: (x) => `Math.ceil(${x})`,
  trunc: (x) => `Math.trunc(${x})`,
  round: (x) => `R.even(${x})`,
  sqrt: (x) => `Math.sqrt(${x})`,
  inverseSqrt: (x) => `1 / Math.sqrt(${x})`,
  exp: (x) => `Math.exp(${x})`,
  exp2: (x) => `2 ** ${x}`,
  log: (x) => `Math.log(${x})`,
  log2: (x) => `Math.log2(${x})`,
  sin: (x) => `Math.sin(${x})`,
  cos: (x) => `Math.cos(${x})`,
  tanh: (x) => `Math.tanh(${x})`,
  pow: (x, y) => `${x} ** ${y}`,
  fma: (a, b, c) => `${a} * ${b} + ${c}`,
  sign: (x) => `Math.sign(${x})`,
  fract: (x) => `${x} - Math.floor(${x})`,
  countLeadingZeros: (x) => `Math.clz32(${x})`,
  countOneBits: (x) => `R.ones(${x})`,
};

const typeNames = /^(vec[234]|array|f32|f16|u32|i32|bool|subgroup_matrix_\w+)$/;

/** The call of a function that the module does not define. */
export function builtinCall(
  c: Compiler,
  name: string,
  templates: readonly (TypeName | Expr)[],
  args: readonly Expr[],
  line: number,
): Value {
  const fields = c.module.structs.get(name);
  if (fields) return construct(c, typeOf({ name, args: [], fields }), args);
  if (typeNames.test(name)) return construct(c, typeOf({ name, args: templates }), args);
  if (name === "bitcast") return recast(c, typeOf(templates[0]!), c.expr(args[0]!));
  if (name === "select") return select(c, args);
  if (name.startsWith("atomic")) return atomic(c, name, args);
  const values = args.map((a) => c.expr(a));
  const [x] = values;
  if (name in each) return components(c, name, values);
  switch (name) {
    case "any":
    case "all":
      return { js: x!.type.kind === "vector" ? `${x!.js}.${name === "any" ? "some" : "every"}((b) => b)` : x!.js, type: scalar("bool") };
    case "dot":
      return { js: rounded(scalarOf(x!.type), `R.dot(${x!.js}, ${values[1]!.js})`), type: scalar(scalarOf(x!.type)) };
    case "unpack4xU8":
      return { js: `R.bytes(${x!.js})`, type: vector("u32", 4) };
    case "unpack4xI8":
      return { js: `R.signedBytes(${x!.js})`, type: vector("i32", 4) };
    default:
      throw new Error(`wgsl line ${line}: ${name} is not known to the simulator`);
  }
}

function components(c: Compiler, name: string, values: readonly Value[]): Value {
  const typed = values.find((v) => !["whole", "real"].includes(scalarOf(v.type))) ?? { type: concrete(values[0]!.type) };
  const of = scalarOf(typed.type);
  const count = Math.max(...values.map((v) => countOf(v.type)));
  const texts = values.map((v) => c.as(v, v.type.kind === "vector" ? vector(of, count) : scalar(of)));
  const apply = (parts: readonly string[]): string => rounded(of, each[name]!(...parts));
  if (count === 1) return { js: apply(texts), type: scalar(of) };
  const names = values.map((_, i) => `x${i}`);
  const lanes = Array.from({ length: count }, (_, l) => apply(values.map((v, i) => (v.type.kind === "vector" ? `x${i}[${l}]` : `x${i}`))));
  return { js: `((${names.join(", ")}) => [${lanes.join(", ")}])(${texts.join(", ")})`, type: vector(of, count) };
}

/** Text of a scalar converted by value. */
function converted(js: string, from: ScalarName, to: ScalarName): string {
  if (from === to) return js;
  if (to === "bool") return `(${js} !== 0)`;
  if (from === "bool") return `(${js} ? 1 : 0)`;
  const real = from === "f32" || from === "f16" || from === "real";
  if (real && (to === "u32" || to === "i32")) return `R.${to === "u32" ? "toU32" : "toI32"}(${js})`;
  return rounded(to, js);
}

function construct(c: Compiler, type: Type, args: readonly Expr[]): Value {
  const values = args.map((a) => c.expr(a));
  if (values.length === 0) return { js: zero(type), type };
  if (type.kind === "scalar") return { js: converted(values[0]!.js, scalarOf(values[0]!.type), type.of), type };
  if (type.kind === "matrix") {
    const key = [type.side, type.of, type.columns, type.rows].join("-");
    return { js: `R.fragment("${key}", ${JSON.stringify(type)}, ${c.as(values[0]!, scalar(type.of))})`, type };
  }
  if (type.kind === "struct") return { js: `[${values.map((v, i) => c.as(v, scalar(type.fields[i]!.of))).join(", ")}]`, type };
  if (type.kind === "array") return { js: `[${values.map((v) => c.as(v, type.of)).join(", ")}]`, type };
  if (type.kind !== "vector") throw new Error(`wgsl: ${type.kind} cannot be constructed`);
  const one = (v: Value): string => converted(v.js, scalarOf(v.type), type.of);
  if (values.length === 1 && values[0]!.type.kind !== "vector") return { js: `new Array(${type.count}).fill(${one(values[0]!)})`, type };
  const parts = values.map((v) => (v.type.kind === "vector" ? `...${v.js}.map((x) => ${converted("x", v.type.of, type.of)})` : one(v)));
  return { js: `[${parts.join(", ")}]`, type };
}

function recast(c: Compiler, type: Type, given: Value): Value {
  const v = { js: c.as(given, concrete(given.type)), type: concrete(given.type) };
  const [from, to] = [scalarOf(v.type), scalarOf(type)];
  const [n, m] = [countOf(v.type), countOf(type)];
  if (n === m && from === to) return { ...v, type };
  const name = `${from}>${to}`;
  const quick = { "f32>u32": "R.floatBits", "u32>f32": "R.bitsFloat", "u32>i32": "R.signed", "i32>u32": "R.unsigned" }[name];
  if (quick && n === m) return { js: n === 1 ? `${quick}(${v.js})` : `${v.js}.map(${quick})`, type };
  return { js: `R.recast(${v.js}, "${from}", "${to}", ${m})`, type };
}

function select(c: Compiler, args: readonly Expr[]): Value {
  const [f, t, test] = args.map((a) => c.expr(a)) as [Value, Value, Value];
  const known = [f, t].find((v) => !["whole", "real"].includes(scalarOf(v.type))) ?? { type: concrete(f.type) };
  const [no, yes] = [f, t].map((v) => c.as(v, known.type));
  if (test.type.kind === "vector") return { js: `R.blend(${no}, ${yes}, ${test.js})`, type: known.type };
  // Both sides are evaluated, as on a GPU.
  return { js: `R.choose(${no}, ${yes}, ${test.js})`, type: known.type };
}

const changes: Readonly<Record<string, string>> = {
  Add: "old + v",
  Max: "Math.max(old, v)",
  Min: "Math.min(old, v)",
  And: "old & v",
  Or: "old | v",
  Xor: "old ^ v",
  Exchange: "v",
  Store: "v",
};

function atomic(c: Compiler, name: string, args: readonly Expr[]): Value {
  const pointer = args[0]!;
  const place = pointer.kind === "unary" && pointer.op === "&" ? c.place(pointer.of) : undefined;
  if (!place?.memory || place.type.kind !== "atomic") throw new Error(`wgsl: ${name} of something that is not atomic`);
  const type = scalar(place.type.of);
  const v = args[1] ? c.as(c.expr(args[1]), type) : "0";
  const change = name === "atomicLoad" ? "old" : changes[name.slice("atomic".length)];
  if (!change) throw new Error(`wgsl: ${name} is not known to the simulator`);
  const js = `((v) => ${place.memory}.atomic(${place.at}, ${place.type.of === "i32"}, (old) => ${change}))(${v})`;
  return { js, type: name === "atomicStore" ? nothing : type };
}
