// Convolutions, norms, embeddings, activations and stages in a row.
import { Conv1d, Conv2d, ConvTranspose2d, Embedding, GroupNorm, initParameters, LayerNorm, RmsNorm, sequential, silu } from "@wick/nn";
import { cpu, scope, torchCpu } from "@wick/tensor";

using device = cpu();
using image = sequential(new Conv2d(3, 8, 3, { padding: 1 }), new GroupNorm(4, 8), silu, new ConvTranspose2d(8, 3, 2, { stride: 2 }));
using tokens = sequential(new LayerNorm(6), new RmsNorm(6, { eps: 1e-6 }));
using words = new Embedding(10, 6);
using line = new Conv1d(2, 2, 3);
for (const [seed, part] of [image, tokens, words, line].entries()) initParameters(part, device, torchCpu(seed));

using x = device.randn([1, 3, 4, 4], torchCpu(5));
using larger = scope(() => image.forward(x));
console.log(`${larger}`);

using ids = device.tensor(Int32Array.of(1, 2, 3));
using normed = scope(() => tokens.forward(words.forward(ids)));
console.log(await normed.print());

using signal = device.randn([1, 2, 8], torchCpu(6));
using filtered = line.forward(signal);
console.log(`${filtered}`);
