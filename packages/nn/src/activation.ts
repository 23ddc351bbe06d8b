// Activations as stages: functions hold no parameters.
import type { Tensor } from "@wick/tensor";

export const silu = (x: Tensor): Tensor => x.silu();
/** The tanh approximation. */
export const gelu = (x: Tensor): Tensor => x.gelu();
export const geluErf = (x: Tensor): Tensor => x.geluErf();
export const geluQuick = (x: Tensor): Tensor => x.geluQuick();
export const relu = (x: Tensor): Tensor => x.relu();
export const sigmoid = (x: Tensor): Tensor => x.sigmoid();
export const tanh = (x: Tensor): Tensor => x.tanh();
