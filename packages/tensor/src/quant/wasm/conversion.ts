// A module that turns values of one format into another: strips of f32 in between, block formats by the searches of their encoders.
import { bytesOf, type DType, dtypeInfo, isInt, isQuantized, type QuantDType } from "../../dtype.ts";
import { type Code, i32, type Local, Module, v128 } from "../../wasm/encoder.ts";
import { emitDecode, emitEncode, type FloatDType } from "./floats.ts";
import { emitIq4Nl, emitIq4Xs } from "./iq4-blocks.ts";
import { emitQ2K, emitQ3K, emitQ4K, emitQ5K, emitQ6K } from "./k-blocks.ts";
import { places, stripValues } from "./places.ts";
import { emitQ40, emitQ41, emitQ50, emitQ51, emitQ80 } from "./small-blocks.ts";

const blockEmitters: Readonly<Record<QuantDType, (module: Module) => Code>> = {
  q4_0: emitQ40,
  q4_1: emitQ41,
  q5_0: emitQ50,
  q5_1: emitQ51,
  q8_0: emitQ80,
  q2_K: emitQ2K,
  q3_K: emitQ3K,
  q4_K: emitQ4K,
  q5_K: emitQ5K,
  q6_K: emitQ6K,
  iq4_nl: emitIq4Nl,
  iq4_xs: emitIq4Xs,
};

/** True for conversions that have generated code. */
export const isGenerated = (from: DType, to: DType): from is FloatDType => !isQuantized(from) && !isInt(from) && !isInt(to);

/** Bytes beyond the input and the output that generated code may touch: a search looks at whole groups of blocks. */
const slackBytes = 1024;

/** Where a module that converts up to `count` values finds its input and puts its output, and how much memory it needs. */
export function conversionLayout(from: FloatDType, to: DType, count: number) {
  const outputAt = places.input + Math.ceil((bytesOf(from, count) + slackBytes) / 64) * 64;
  const pages = Math.ceil((outputAt + bytesOf(to, count) + slackBytes) / 65_536);
  return { inputAt: places.input, outputAt, pages };
}

/**
 * Binary of a module whose convert(count, outputAt) turns `count` values at `inputAt` into `to`. It returns 1 when the plain loops would throw:
 * for values or scales that `to` cannot hold.
 */
export function conversionModule(from: FloatDType, to: DType): Uint8Array<ArrayBuffer> {
  const module = new Module(false);
  const decode = from === "f32" ? undefined : emitDecode(module, from);
  const finite = isQuantized(to) ? emitNotFinite(module) : undefined;
  const encode = isQuantized(to) ? blockEmitters[to](module) : emitEncode(module, to as FloatDType);
  const { blockSize, blockBytes } = dtypeInfo[to];
  const c = module.func("convert", [i32, i32], [i32]);
  const [left, out] = [0, 1];
  const [source, values, n] = c.locals(i32, 3) as [Local, Local, Local];
  c.int(places.input).set(source).get(left).if().loop();
  c.get(left).int(stripValues).get(left).int(stripValues).op("i32.lt_s").op("select").set(n);
  if (decode) c.get(source).get(n).call(decode).int(places.values).set(values);
  else c.get(source).set(values);
  if (finite) c.get(values).get(n).call(finite).if().int(1).op("return").end();
  c.get(values).get(out).get(n).int(blockSize).op("i32.div_u").call(encode).if().int(1).op("return").end();
  c.get(source).get(n).int(bytesOf(from, 1)).op("i32.mul").op("i32.add").set(source);
  c.advance(out, (stripValues / blockSize) * blockBytes);
  c.get(left).get(n).op("i32.sub").tee(left).branchIf(0).end().end();
  c.int(0);
  return module.build();
}

/** (values, count) → not 0 where one of the values, whole vectors of them, is infinite or NaN. */
function emitNotFinite(module: Module): Code {
  const c = module.func(undefined, [i32, i32], [i32]).keepConstants();
  const carries = c.local(v128);
  c.get(1).if().loop();
  for (let at = 0; at < 128; at += 16) {
    // One more in the exponent reaches the sign bit for infinities and NaN only.
    c.get(0).memory("v128.load", at).ints(0x7fffffff).op("v128.and").ints(0x00800000).op("i32x4.add");
    c.get(carries).op("v128.or").set(carries);
  }
  c.advance(0, 128).advance(1, -32).get(1).branchIf(0).end().end();
  return c.get(carries).op("i32x4.bitmask");
}
