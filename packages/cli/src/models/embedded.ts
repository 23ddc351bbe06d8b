// The model that comes with Wick, by name.

/** What --model says by default. */
export const embeddedName = "embedded";
