// Owns where the time comes from, so that a test can hold it still.

export type Clock = { nowSeconds(): number };

/** This machine's clock, in whole seconds. Deadlines are decided by block time, never by this. */
export const systemClock: Clock = { nowSeconds: () => Math.floor(Date.now() / 1000) };
