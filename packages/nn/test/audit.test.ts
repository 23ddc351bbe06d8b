import { cpu, memorySink, memorySource, openSafetensors, readTensors, saveTensors, scope, type Tensor, torchCpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { audit, capture, initParameters, LayerNorm, Linear, Module, repeat } from "../src/index.ts";

class Pair extends Module {
  readonly norm = new LayerNorm(4, { affine: false });
  readonly up = new Linear(4, 4);
  forward(x: Tensor): { readonly a: Tensor; readonly b: readonly Tensor[] } {
    return { a: this.up.forward(this.norm.forward(x)), b: [x.mul(2)] };
  }
}
class Net extends Module {
  readonly pairs = repeat(2, () => new Pair());
  readonly root = new (class Root extends Module {
    forward(x: Tensor): Tensor {
      return x.log();
    }
  })();
  forward(x: Tensor): Tensor {
    const { a, b } = this.pairs[0]!.forward(x);
    return this.root.forward(this.pairs[0]!.forward(this.root.forward(a.add(b[0]!))).a);
  }
}

test("an audit tells how large values are and where the first NaN appears", async () => {
  using device = cpu();
  {
    using net = new Net();
    initParameters(net, device, torchCpu(0));
    using x = device.tensor([1, 2, 3, -4], [1, 4]);
    const found = await audit(net, ["**"], () => run(net, x));
    expect(found.outputs.map((o) => o.path)).toMatchInlineSnapshot(`
      [
        "pairs.0.norm",
        "pairs.0.up",
        "pairs.0.a",
        "pairs.0.b.0",
        "root",
        "pairs.0.norm@1",
        "pairs.0.up@1",
        "pairs.0@1.a",
        "pairs.0@1.b.0",
        "root@1",
        "",
      ]
    `);
    expect(found.outputs[0]).toMatchObject({ path: "pairs.0.norm", type: "f32 [1, 4]", nans: 0, infinities: 0 });
    expect(found.outputs.find((o) => o.path === "pairs.0.b.0")).toMatchObject({ maxAbs: 8, rms: Math.sqrt(Math.fround(30)), nans: 0 });
    expect(found.firstBad).toMatchObject({ path: "root", infinities: 0 });
    expect(found.firstBad!.nans).toBeGreaterThan(0);
    expect(`${found}`.split("\n").at(-1)).toBe("first NaN or infinite values: root");
    using positive = device.tensor([40, 10, 50, 20], [1, 4]);
    const fine = await audit(net, ["pairs.0.b", "pairs.*.norm"], () => run(net, positive));
    expect(`${fine}`.split("\n").at(-1)).toBe("all values are finite");
    await expect(audit(net, ["nothing"], () => 0)).rejects.toThrow(/audit: no module of Net matches nothing/);
    await expect(audit(net, ["**"], () => Promise.reject(new Error("stop")))).rejects.toThrow("stop");
  }
  expect(device.liveBytes).toBe(0);
});

const run = async (net: Net, x: Tensor): Promise<void> => scope(() => net.forward(x)).dispose();

test("captured tensors go to a file under their modules' names and come back", async () => {
  using device = cpu();
  {
    using net = new Net();
    initParameters(net, device, torchCpu(0));
    using x = device.tensor([1, 2, 3, 4], [1, 4]);
    using taps = await capture(net, ["pairs.0", "pairs.0.norm"], () => run(net, x));
    const sink = memorySink();
    await saveTensors(sink, taps.tensors());
    const file = await openSafetensors([memorySource(sink.bytes(), "run.safetensors")]);
    expect([...file.entries.keys()]).toEqual([
      "pairs.0.norm",
      "pairs.0.norm@1",
      "pairs.0.a",
      "pairs.0.b.0",
      "pairs.0@1.a",
      "pairs.0@1.b.0",
    ]);
    const read = await readTensors(file, device, ["pairs.0.b.0"]);
    expect([...(await read["pairs.0.b.0"]!.toArray())]).toEqual([2, 4, 6, 8]);
    read["pairs.0.b.0"]!.dispose();
    await expect(readTensors(file, device, ["pairs.0.a", "pairs.0.c"])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[WeightsError: stream: no tensor pairs.0.c in the checkpoint (6 tensors)]`,
    );
    await expect(saveTensors("run.txt", {})).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saveTensors: run.txt ends in none of .safetensors, .gguf, .npz; name the format]`,
    );
  }
  expect(device.liveBytes).toBe(0);
});
