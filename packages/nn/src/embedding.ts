// A table of rows picked by integer ids.
import type { Tensor } from "@wick/tensor";
import { Module } from "./module.ts";
import { type Parameter, param } from "./parameter.ts";

/** torch.nn.Embedding: rows of a table by integer ids. */
export class Embedding extends Module {
  /** [count, width]; any float or quantized dtype. */
  readonly weight: Parameter;
  constructor(count: number, width: number) {
    super();
    this.weight = param(count, width);
  }
  /** ids [...] integers → [..., width], f32 */
  forward(ids: Tensor): Tensor {
    return this.weight.embedding(ids).to("f32");
  }
}
