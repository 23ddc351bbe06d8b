// The KL autoencoder module by module against diffusers, loaded from both layouts.
import { cpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { klDecodeParity, klEncodeParity, openGolden, worst } from "./parity-cases.ts";

for (const layout of ["diffusers", "black-forest-labs"] as const) {
  test(`every module of encoder and decoder agrees, weights in the layout of ${layout}`, async () => {
    using device = cpu();
    const encoded = await klEncodeParity(device, {}, layout);
    expect(encoded.length).toBe(70);
    const decoded = await klDecodeParity(device, {}, layout);
    expect(decoded.length).toBe(88);
    expect(worst([...encoded, ...decoded])).toBeLessThan(5e-6);
    expect(device.liveBytes).toBe(0);
  });
}

test("outputs of whole blocks, which are not compared, are those of their last parts, which are", async () => {
  const parts = {
    "kl-encode": {
      encoder: "conv_out",
      "encoder.mid_block": "resnets.1",
      "encoder.down_blocks.0": "downsamplers.0",
      "encoder.down_blocks.3": "resnets.1",
    },
    "kl-decode": {
      decoder: "conv_out",
      "decoder.mid_block": "resnets.1",
      "decoder.up_blocks.0": "upsamplers.0",
      "decoder.up_blocks.3": "resnets.2",
    },
  };
  for (const [name, blocks] of Object.entries(parts)) {
    const { outputs } = await openGolden(name);
    for (const [path, last] of Object.entries(blocks)) expect(outputs.get(path)).toEqual(outputs.get(`${path}.${last}`));
  }
});

test("a wrong constant is noticed, and the first module it spoils is named", async () => {
  using device = cpu();
  await expect(klEncodeParity(device, { groups: 2 })).rejects.toThrow(/first to diverge is encoder\.down_blocks\.0\.resnets\.0\.norm1: /);
  await expect(klDecodeParity(device, { shift: 0.1209 })).rejects.toThrow(/first to diverge is decoder\.conv_in: /);
  await expect(klEncodeParity(device, { scale: 0.3621 })).rejects.toThrow(/first to diverge is latents: /);
  expect(device.liveBytes).toBe(0);
});
