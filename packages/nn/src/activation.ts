// Activations as stages: functions hold no parameters. Definitions are PyTorch's (torch.nn.functional).
import { scope, type Tensor } from "@wick/tensor";

/** x · sigmoid(x). */
export const silu = (x: Tensor): Tensor => x.silu();
/** The tanh approximation. */
export const gelu = (x: Tensor): Tensor => x.gelu();
/** Exact GELU, by the error function. */
export const geluErf = (x: Tensor): Tensor => x.geluErf();
/** x · sigmoid(1.702 x), as CLIP has it. */
export const geluQuick = (x: Tensor): Tensor => x.geluQuick();
/** max(x, 0). */
export const relu = (x: Tensor): Tensor => x.relu();
/** 1 / (1 + e^-x). */
export const sigmoid = (x: Tensor): Tensor => x.sigmoid();
/** The hyperbolic tangent. */
export const tanh = (x: Tensor): Tensor => x.tanh();
/** log(1 + e^x) */
export const softplus = (x: Tensor): Tensor => x.softplus();
/** x between 0 and 6. */
export const relu6 = (x: Tensor): Tensor => x.clamp(0, 6);
/** relu(x)² */
export const reluSquared = (x: Tensor): Tensor => scope(() => x.relu().square());
/** x · tanh(softplus(x)) */
export const mish = (x: Tensor): Tensor => scope(() => x.mul(x.softplus().tanh()));
/** x / 6 + 1/2 between 0 and 1. */
export const hardSigmoid = (x: Tensor): Tensor => scope(() => x.affine(1 / 6, 0.5).clamp(0, 1));
/** x · hardSigmoid(x). */
export const hardSwish = (x: Tensor): Tensor => scope(() => x.mul(hardSigmoid(x)));
/** x where positive, slope · x elsewhere. */
export const leakyRelu =
  (slope = 0.01) =>
  (x: Tensor): Tensor =>
    scope(() => x.gt(0).where(x, x.mul(slope)));
/** x where positive, alpha · (e^x - 1) elsewhere. */
export const elu =
  (alpha = 1) =>
  (x: Tensor): Tensor =>
    scope(() => x.gt(0).where(x, x.minimum(0).expm1().mul(alpha)));
/** x [b, c · r², h, w] → [b, c, h · r, w · r], torch's pixel_shuffle. */
export const pixelShuffle =
  (r: number) =>
  (x: Tensor): Tensor =>
    x.rearrange("b (c p q) h w -> b c (h p) (w q)", { p: r, q: r });
