// Owns what a command writes: results to stdout, progress and errors to stderr, as text for people or JSON for programs.
import type { Writable } from "node:stream";
import { stripVTControlCharacters, styleText } from "node:util";
import { InfernetError } from "../protocol/errors.ts";

/** How a rendered text is coloured; plain where the stream is no terminal or NO_COLOR is set. */
export type Style = Record<"bold" | "dim" | "green" | "yellow" | "red", (text: string) => string>;

/** One step of a command that takes long, as JSON carries it. */
export type ProgressEvent = { event: string } & Record<string, unknown>;

export type Output = {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly style: Style;
  /** A command's result: `human` to a person, one JSON document to a program. */
  result(value: object, human: (style: Style) => string): void;
  /** Raw text of a result that streams; resolves when the reader has taken it. */
  write(text: string): Promise<void>;
  /** One JSON line on stdout, of a command whose result is a series of events. */
  line(event: ProgressEvent): void;
  /** Progress on stderr: one JSON line with --json, `human` otherwise (nothing when it is empty), silent with --quiet. */
  progress(event: ProgressEvent, human: string): void;
  /** A line on stderr for people alone: silent with --json or --quiet, and when it is empty. */
  hint(text: string): void;
  /** Tells an error on stderr and returns the exit code that it means. */
  fail(error: unknown): number;
  /** Resolves when everything written has left the process. */
  flush(): Promise<void>;
};

export type OutputOptions = { stdout: Writable; stderr: Writable; json: boolean; quiet: boolean };

/** The exit code of an error that is a bug of ours. */
const BUG_EXIT_CODE = 1;

export function createOutput(options: OutputOptions): Output {
  const { stdout, stderr, json, quiet } = options;
  const style = styleFor(stdout);
  const toStderr = (text: string) => void stderr.write(text.endsWith("\n") ? text : `${text}\n`);
  return {
    json,
    quiet,
    style,
    result(value, human) {
      const text = json ? formatJson(value) : human(style);
      if (text !== "") stdout.write(`${text}\n`);
    },
    write: (text) => new Promise((resolve) => stdout.write(text, () => resolve())),
    line: (event) => void stdout.write(`${formatJson(event)}\n`),
    progress(event, human) {
      if (quiet) return;
      if (json) toStderr(formatJson(event));
      else if (human !== "") toStderr(human);
    },
    hint(text) {
      if (!quiet && !json && text !== "") toStderr(text);
    },
    fail(error) {
      toStderr(json ? formatJson({ error: describeError(error) }) : explainError(error));
      return error instanceof InfernetError ? error.exitCode : BUG_EXIT_CODE;
    },
    async flush() {
      await Promise.all([stdout, stderr].map((stream) => drain(stream)));
    },
  };
}

/** JSON in which a bigint stands as a decimal string. */
export function formatJson(value: object): string {
  return JSON.stringify(value, (_key, field) => (typeof field === "bigint" ? field.toString() : field));
}

/** Rows in columns of equal width, two spaces apart; a cell's colours do not count as width. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const visible = (cell: string) => stripVTControlCharacters(cell).length;
  const widths = (rows[0] ?? []).map((_cell, column) =>
    Math.max(...rows.map((row) => visible(row[column] ?? ""))),
  );
  return rows
    .map((row) =>
      row.map((cell, column) => cell + " ".repeat(Math.max(0, widths[column]! - visible(cell)))).join("  "),
    )
    .map((line) => line.trimEnd())
    .join("\n");
}

/** A text from elsewhere made safe to print: a node's words must not move the cursor of a person's terminal. */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/[\p{Cc}\p{Cf}]/gu, "");
}

function styleFor(stream: Writable): Style {
  const paint = (format: keyof Style) => (text: string) => styleText(format, text, { stream });
  return {
    bold: paint("bold"),
    dim: paint("dim"),
    green: paint("green"),
    yellow: paint("yellow"),
    red: paint("red"),
  };
}

function describeError(error: unknown): Record<string, unknown> {
  if (error instanceof InfernetError) {
    return {
      ...error.data,
      code: error.code,
      message: error.message,
      ...(error.hint ? { hint: error.hint } : {}),
      exitCode: error.exitCode,
    };
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { code: "bug", message, stack, exitCode: BUG_EXIT_CODE };
}

function explainError(error: unknown): string {
  if (error instanceof InfernetError) {
    const hint = error.hint ? `\nhint: ${printable(error.hint)}` : "";
    return `error: ${printable(error.message)}${hint}`;
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `error: this is a bug in infernet\n${stack}`;
}

function drain(stream: Writable): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => stream.write("", () => resolve()));
}
