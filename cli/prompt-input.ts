// Owns where long texts come from, prompts above all: a flag, a file, a pipe, or a person.
import { readFile } from "node:fs/promises";
import { InfernetError } from "../protocol/errors.ts";
import type { Context } from "./context.ts";

/** The most text that is read: beyond it no model has the context, and a wrong pipe would fill the memory. */
const MOST_BYTES = 8 * 1024 * 1024;

export type PromptFlags = { prompt?: string; file?: string };

/** The prompt. Throws `bad-request` when two are given, or none, or none that is text. */
export async function readPrompt(context: Context, { prompt, file }: PromptFlags): Promise<string> {
  if (prompt !== undefined && file !== undefined) {
    throw new InfernetError("bad-request", "--prompt and --file cannot both be given", {
      hint: "Give one of them, or pipe the prompt in.",
    });
  }
  const ask = () => context.prompter.text({ message: "Prompt", missing: "--prompt TEXT" });
  const text = prompt ?? (await readText(context, file, ask));
  if (text.trim() !== "") return text;
  throw new InfernetError("bad-request", "the prompt is empty", {
    hint: "Give --prompt TEXT or --file PATH, or pipe the prompt in.",
  });
}

/** The text of a file, else of standard input (`-` too), else, where that is a terminal, what `ask` gives. */
export async function readText(
  { terminal }: Context,
  file: string | undefined,
  ask: () => Promise<string>,
): Promise<string> {
  if (file !== undefined && file !== "-") return decode(await readFrom(file), file);
  if (terminal.stdin.isTTY) return ask();
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of terminal.stdin as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MOST_BYTES) throw tooLong("standard input");
    parts.push(part);
  }
  return decode(Buffer.concat(parts), "standard input");
}

async function readFrom(path: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > MOST_BYTES) throw tooLong(path);
    return bytes;
  } catch (cause) {
    if (cause instanceof InfernetError) throw cause;
    throw new InfernetError("bad-request", `the file ${path} cannot be read`, { cause });
  }
}

function decode(bytes: Buffer, source: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new InfernetError("bad-request", `${source} is not UTF-8 text`, { cause });
  }
}

function tooLong(source: string): InfernetError {
  return new InfernetError("body-too-large", `${source} holds more than ${MOST_BYTES >> 20} MiB`, {
    hint: "No model reads that much at once: send a part of it.",
  });
}
