// Owns what `infernet doctor` finds: one line for each thing that it looked at, and what to do about it.
import { type ErrorCode, InfernetError } from "../../protocol/errors.ts";

/** `hint` is what to do, empty for `ok`; `code` is the error that a command would meet, null unless `fail`. */
export type Finding = {
  check: string;
  status: "ok" | "warn" | "fail";
  message: string;
  hint: string;
  code: ErrorCode | null;
};

export function ok(check: string, message: string): Finding {
  return { check, status: "ok", message, hint: "", code: null };
}

export function warn(check: string, message: string, hint: string): Finding {
  return { check, status: "warn", message, hint, code: null };
}

export function fail(check: string, code: ErrorCode, message: string, hint: string): Finding {
  return { check, status: "fail", message, hint, code };
}

/** An error of ours as a finding; anything else is a bug and is thrown on. */
export function failOf(check: string, error: unknown): Finding {
  if (!(error instanceof InfernetError)) throw error;
  return fail(check, error.code, error.message, error.hint);
}

/** What `look` finds, or the error of ours that it throws, as a finding. */
export async function tryLook(check: string, look: () => Promise<Finding> | Finding): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    return failOf(check, error);
  }
}
