import { cpu, fold, scope, type Tensor, TensorError, torchCpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { capture, initParameters, Linear, Module, patch, pathMatcher, repeat } from "../src/index.ts";

class Block extends Module {
  readonly proj = new Linear(4, 4);
  forward(x: Tensor): { x: Tensor; note: string } {
    return { x: this.proj.forward(x).add(x), note: "kept" };
  }
}
class Toy extends Module {
  readonly blocks = repeat(3, () => new Block());
  readonly head = new Linear(4, 2);
  forward(x: Tensor): Tensor {
    return scope(() => this.head.forward(fold(this.blocks, x, (h, b) => b.forward(h).x)));
  }
}

const floats = async (t: Tensor): Promise<number[]> => [...((await t.toArray()) as Float32Array)];

async function withToy(fn: (model: Toy, x: Tensor) => Promise<void>): Promise<void> {
  using device = cpu();
  {
    using model = new Toy();
    initParameters(model, device, torchCpu(3));
    using x = device.tensor([1, 2, 3, 4], [1, 4]);
    const before = device.liveBytes;
    await fn(model, x);
    expect(device.liveBytes).toBe(before);
    for (const block of model.blocks) expect(Object.getOwnPropertyNames(block)).toEqual(["proj"]);
  }
  expect(device.liveBytes).toBe(0);
}

test("outputs are kept by path beyond their scopes, and released together", () =>
  withToy(async (model, x) => {
    using plain = model.forward(x);
    {
      using taps = capture(model, ["blocks.*", "**.proj"], () => model.forward(x));
      using result = taps.result;
      expect([...taps.calls.keys()]).toEqual(["blocks.0.proj", "blocks.0", "blocks.1.proj", "blocks.1", "blocks.2.proj", "blocks.2"]);
      expect(await floats(result)).toEqual(await floats(plain));
      const block = taps.output<{ x: Tensor; note: string }>("blocks.2");
      expect(block.note).toBe("kept");
      using again = model.head.forward(block.x);
      expect(await floats(again)).toEqual(await floats(plain));
      expect(taps.output("blocks.0.proj").shape).toEqual([1, 4]);
      expect(() => taps.output("head")).toThrowErrorMatchingInlineSnapshot(
        `[TensorError: capture: no output was captured at head; captured were blocks.0.proj, blocks.0, blocks.1.proj, blocks.1, blocks.2.proj, blocks.2]`,
      );
    }
  }));

test("a second call is a second entry; promises are awaited; captures may overlap", () =>
  withToy(async (model, x) => {
    const first = capture(model, ["head"], async () => {
      using a = model.forward(x);
      await a.toArray();
      using b = model.forward(x);
      await b.toArray();
      return "done";
    });
    const second = capture(model, ["head"], () => {
      using a = model.forward(x);
      return a.shape;
    });
    {
      using _ = second;
      expect(second.calls.get("head")).toHaveLength(1);
    }
    using outer = await first;
    expect([outer.result, outer.calls.get("head")!.length]).toEqual(["done", 3]);
  }));

test("patches replace outputs until they are disposed of", () =>
  withToy(async (model, x) => {
    using plain = model.forward(x);
    const seen: string[] = [];
    {
      using _ = patch<{ x: Tensor; note: string }>(model, ["blocks.1"], ({ note }, { path, inputs }) => {
        seen.push(path);
        return { x: inputs[0] as Tensor, note };
      });
      using skipped = model.forward(x);
      expect(await floats(skipped)).not.toEqual(await floats(plain));
      using __ = patch(model, ["head"], (y) => y.mul(2));
      using doubled = model.forward(x);
      expect((await floats(doubled)).map((v) => v / 2)).toEqual(await floats(skipped));
    }
    expect(seen).toEqual(["blocks.1", "blocks.1"]);
  }));

test("a throw restores the model and releases what was captured", () =>
  withToy(async (model, x) => {
    const fail = (): Tensor => {
      model.forward(x).dispose();
      throw new Error("midway");
    };
    expect(() => capture(model, ["**"], fail)).toThrow("midway");
    await expect(capture(model, ["**"], async () => fail())).rejects.toThrow("midway");
  }));

test("globs that name nothing are refused", () =>
  withToy(async (model) => {
    expect(() => patch(model, ["layers.*"], (y) => y)).toThrow(TensorError);
    expect(() => patch(model, ["layers.*"], (y) => y)).toThrowErrorMatchingInlineSnapshot(
      `[TensorError: patch: no module of Toy matches layers.*; it has blocks.0, blocks.0.proj, blocks.1, blocks.1.proj, blocks.2, …]`,
    );
  }));

test.each([
  ["a.*.c", ["a.b.c", "a.1.c"], ["a.c", "a.b.b.c", "xa.b.c"]],
  ["a.**", ["a", "a.b", "a.b.c"], ["ab", "b.a"]],
  ["**.c", ["c", "a.c", "a.b.c"], ["a.bc", "c.a"]],
  ["a.**.c", ["a.c", "a.b.c", "a.b.b.c"], ["a.bc", "ac"]],
  ["**", ["", "a", "a.b"], []],
  ["**.norm*", ["norm1", "a.norm_q"], ["a.norm.b"]],
  ["a+(b).*", ["a+(b).c"], ["aab.c"]],
])("glob %s", (glob, yes, no) => {
  expect(yes.filter((p) => !pathMatcher(glob)(p))).toEqual([]);
  expect(no.filter((p) => pathMatcher(glob)(p))).toEqual([]);
});
