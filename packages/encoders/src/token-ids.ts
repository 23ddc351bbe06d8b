// Token ids on their way into an encoder: checked on the host, since a device would read beyond the table without a word.
import { type Device, ShapeError, type Tensor } from "@wick/tensor";

/** Lists of token ids, one per text, all of one length; pad them if they are not. */
export type TokenIds = readonly ArrayLike<number>[];

/** ids [b][l] → [b, l] i32. Throws ShapeError for no tokens, unequal lengths, and ids that are not in the vocabulary. */
export function tokenTensor(op: string, device: Device, ids: TokenIds, vocabSize: number): Tensor {
  const length = ids[0]?.length ?? 0;
  if (length === 0) throw new ShapeError(op, "there are no tokens to encode");
  const flat = new Int32Array(ids.length * length);
  for (const [row, list] of ids.entries()) {
    if (list.length !== length)
      throw new ShapeError(op, `token lists of a batch have equal lengths: ${length} and ${list.length}; pad them`);
    for (let i = 0; i < length; i++) flat[row * length + i] = checkedId(op, list[i]!, vocabSize);
  }
  return device.tensor(flat, [ids.length, length], { label: "token ids" });
}

function checkedId(op: string, id: number, vocabSize: number): number {
  if (Number.isInteger(id) && id >= 0 && id < vocabSize) return id;
  throw new ShapeError(op, `token id ${id} is not in the vocabulary of ${vocabSize}; is it the tokenizer of another model?`);
}
