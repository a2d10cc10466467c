// Owns tables for other programs: comma-separated values as RFC 4180 has them.

/** A head line and one line for each record; a text that would be read as a formula is quoted with a leading apostrophe. */
export function formatCsv<Column extends string>(
  columns: readonly Column[],
  records: readonly Readonly<Record<Column, unknown>>[],
): string {
  const lines = [columns, ...records.map((record) => columns.map((column) => record[column]))];
  return lines.map((fields) => `${fields.map(formatField).join(",")}\r\n`).join("");
}

/** Models are named by strangers: no name may run in a spreadsheet, or begin a field or a line of its own. */
function formatField(value: unknown): string {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
