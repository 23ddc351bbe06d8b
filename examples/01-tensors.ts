// Tensors in two minutes: shapes, dtypes, random numbers that equal PyTorch's, lifetimes and errors.
// Run: npm run example -- 01
import { cpu, ShapeError, scope, torchCpu } from "@wick/tensor";

using device = cpu(); // or: await webgpu()
console.log(`device: ${device}`);

// Ops carry PyTorch's names. Nothing is awaited until numbers leave the device.
using x = device.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
using w = scope(() => device.linspace(-1, 1, 12).reshape(4, 3));
using y = scope(() => x.matmul(w.t()).add(1).gelu()); // the three temporaries inside are gone
console.log(await y.print());

// Exactly as many parts as asked for, so that destructuring needs no checks.
const [rows, columns] = y.dims(2);
console.log(`y has ${rows} rows and ${columns} columns of ${y.dtype}`);

// Attention heads by an einops pattern; a view, no copy.
using tokens = device.randn([1, 4, 8], torchCpu(42));
using heads = tokens.rearrange("b l (n k) -> b n l k", { n: 2 });
console.log(`heads: ${heads.shape.join(" x ")}`);

// The same numbers as torch.manual_seed(42); torch.randn(3), to the bit.
console.log(`torch.randn with seed 42: ${Array.from(torchCpu(42).randn(3)).join(", ")}`);

// bf16 stays bf16 in memory and is computed in f32.
using narrow = x.to("bf16");
using mean = scope(() => narrow.mean());
console.log(`${x.byteLength} bytes as f32, ${narrow.byteLength} as bf16; their mean is ${await mean.item()}`);

// Mistakes name the op and its operands.
try {
  x.matmul(w);
} catch (error) {
  if (!(error instanceof ShapeError)) throw error;
  console.log(`as it should be: ${error.message}`);
}

console.log(`${device.liveBytes} bytes are alive, ${device.peakBytes} were at most`);
