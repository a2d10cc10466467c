// Owns catching the error that a test expects.
import { InfernetError } from "../../protocol/errors.ts";

/** The InfernetError that this promise rejects with; anything else fails the test. */
export async function errorOf(promise: Promise<unknown>): Promise<InfernetError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof InfernetError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}
