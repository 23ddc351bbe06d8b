// Private to the tests of this repository: how results are compared and how close they must be.
export { messageOf } from "./message-of.ts";
export { explainDifference, maxAbs, type Numbers, psnrDb, relativeL2 } from "./metrics.ts";
export { type ComparedDType, type ComparedLevel, hostTolerances, pictureDb, tolerances } from "./tolerances.ts";
