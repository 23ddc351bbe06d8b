// @wick/cli: the wick command. Other programs use the packages below it; this one only exports what its binary needs.
export { exitCodes } from "./cli-error.ts";
export { run } from "./run.ts";
