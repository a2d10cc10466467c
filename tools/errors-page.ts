// Owns docs/errors.md: the table of all errors, written from the code's own tables. `npm run docs:errors` renews it.
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ERROR_MEANINGS } from "../protocol/error-meanings.ts";
import { ERROR_TABLE, type ErrorCode } from "../protocol/errors.ts";

export const ERRORS_PAGE = resolve(import.meta.dirname, "../docs/errors.md");

const HEAD = `# Errors

<!-- Written by \`npm run docs:errors\` from protocol/errors.ts and protocol/error-meanings.ts. Change those. -->

Every error that a person or a program can meet has a code that stays the same. A node answers it as
\`application/problem+json\` with \`code\`, \`detail\` (the message) and \`hint\` (what to do), under \`/v1\` in OpenAI's
shape; a command prints message and hint on stderr, with \`--json\` as \`{"error": {…}}\`, and ends with the exit code.
Anything without a code is a bug: HTTP 500, exit code 1, a stack trace on stderr.

| code | HTTP | exit | what it means | what to do |
| --- | --- | --- | --- | --- |
`;

/** The page as it has to be. */
export function renderErrorsPage(): string {
  const rows = (Object.keys(ERROR_TABLE) as ErrorCode[]).map((code) => {
    const { status, exit } = ERROR_TABLE[code];
    const { meaning, remedy } = ERROR_MEANINGS[code];
    return `| \`${code}\` | ${status} | ${exit} | ${meaning} | ${remedy} |\n`;
  });
  return HEAD + rows.join("");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  writeFileSync(ERRORS_PAGE, renderErrorsPage());
