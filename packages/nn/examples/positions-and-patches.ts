// Images to tokens and back, timesteps and rotary tables.
import { initParameters, MlpEmbedder, patchify, ropeTable, timestepEmbedding, unpatchify } from "@wick/nn";
import { cpu, scope, torchCpu } from "@wick/tensor";

using device = cpu();
using latents = device.randn([1, 16, 8, 6], torchCpu(0));
using tokens = patchify(latents, 2, "channels-first");
using back = unpatchify(tokens, 2, "channels-first", { rows: 4, columns: 3 });
using same = scope(() => back.eq(latents).all());
console.log(`${tokens}`, await same.item());

using sinusoid = timestepEmbedding(device, [0.5], 8);
console.log(await sinusoid.print());
using embedder = new MlpEmbedder(8, 4);
initParameters(embedder, device, torchCpu(1));
using time = scope(() => embedder.forward(sinusoid));
console.log(`${time}`);

const { cos, sin } = ropeTable(
  device,
  [
    [0, 1],
    [2, 3],
  ],
  { widths: [2, 2], theta: 100 },
);
console.log(await cos.print());
cos.dispose();
sin.dispose();
