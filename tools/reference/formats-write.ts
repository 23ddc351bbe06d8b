// Writes one file of each format, and raw copies of what went in, for tools/reference/formats_check.py. Usage: formats-write.ts DIR
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  bytesOf,
  type DType,
  dequantizeInto,
  isQuantized,
  quantizeInto,
  sizeOf,
  torchCpu,
  type WritableTensor,
  writeFileAtomically,
  writeGguf,
  writeNpz,
  writeSafetensors,
} from "@wick/tensor";

const folder = process.argv[2];
if (!folder) throw new Error("usage: formats-write.ts DIR");
const raw = join(folder, "raw");
await mkdir(raw, { recursive: true });
const generator = torchCpu(3);

async function tensor(name: string, dtype: DType, shape: readonly number[]): Promise<WritableTensor> {
  const count = sizeOf(shape);
  const bytes = new Uint8Array(bytesOf(dtype, count));
  if (isQuantized(dtype)) {
    quantizeInto(dtype, generator.randn(count), 0, bytes, 0, count);
    const values = new Float32Array(count);
    dequantizeInto(dtype, bytes, 0, values, 0, count);
    await writeFile(join(raw, `${name}.f32`), values);
  } else bytes.set(Uint8Array.from(generator.randint(0, 0x3c, bytes.length)));
  await writeFile(join(raw, `${name}.bin`), bytes);
  await writeFile(join(raw, `${name}.json`), JSON.stringify(shape));
  return { name, dtype, shape, bytes: () => [bytes] };
}

const named = async (prefix: string, dtypes: readonly DType[], shape: readonly number[]): Promise<WritableTensor[]> => {
  const out: WritableTensor[] = [];
  for (const dtype of dtypes) out.push(await tensor(`${prefix}.${dtype}`, dtype, shape));
  return out;
};

const plain: DType[] = ["u8", "f8e4m3", "f8e5m2", "bf16", "f16", "f32", "i32", "u32", "i64"];
await writeFileAtomically(join(folder, "a.safetensors"), async (sink) =>
  writeSafetensors(sink, [...(await named("st", plain, [3, 5])), await tensor("st.scalar", "f32", [])], { format: "pt", note: "ünï" }),
);
await writeFileAtomically(join(folder, "a.npz"), async (sink) =>
  writeNpz(sink, [...(await named("np", ["f32", "f16", "i64", "i32", "u32", "u8"], [3, 5])), await tensor("np.one", "f32", [7])]),
);
const blocks: DType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"];
const metadata = {
  "general.architecture": "flux",
  n: 7,
  text: "ünï",
  on: true,
  below: -5,
  half: 0.5,
  list: ["a", "b"],
  ints: Int32Array.of(1, -2),
};
await writeFileAtomically(join(folder, "a.gguf"), async (sink) =>
  writeGguf(sink, [...(await named("gg", ["f32", "f16", "i32", "i64"], [3, 5])), ...(await named("gg", blocks, [3, 512]))], metadata),
);
const continued = torchCpu(77);
continued.randn(5);
continued.rand(1000);
await writeFile(join(folder, "rng.state"), continued.state());
await writeFile(join(folder, "rng.next"), continued.randn(40));
