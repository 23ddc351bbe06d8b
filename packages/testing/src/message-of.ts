// What a user reads when a call is refused.

/** Class and message of what `fn` throws, as they are printed; throws when it throws nothing. */
export function messageOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return String(error);
  }
  throw new Error("nothing was thrown");
}
