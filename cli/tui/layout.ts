// Owns how text fits a terminal of any width: measured in cells, cut, and set in rows that flow over.
import { stripVTControlCharacters } from "node:util";

/** Letters that take two cells: East Asian ones and most pictures. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60]/u;
const NO_CELLS = /[\p{Mn}\p{Me}\p{Cf}\p{Cc}]/u;
const ESCAPE = "\u001b";
const PIECES = new RegExp(`${ESCAPE}\\[[0-9;]*m|.`, "gsu");
const RESET = `${ESCAPE}[0m`;

/** Cells that a text takes; colours take none. */
export function cellsOf(text: string): number {
  let cells = 0;
  for (const letter of stripVTControlCharacters(text)) cells += cellsOfLetter(letter);
  return cells;
}

/** The text, cut to so many cells with an ellipsis where it is longer; a colour that was on is put off. */
export function cutTo(text: string, cells: number): string {
  if (cellsOf(text) <= cells) return text;
  let taken = 0;
  let isColoured = false;
  let cut = "";
  for (const [piece] of text.matchAll(PIECES)) {
    if (piece.startsWith(ESCAPE)) {
      isColoured = true;
      cut += piece;
      continue;
    }
    const width = cellsOfLetter(piece);
    if (taken + width > cells - 1) break;
    taken += width;
    cut += piece;
  }
  return cells <= 0 ? "" : `${cut}…${isColoured ? RESET : ""}`;
}

/** Parts set one after the other, as many to a line as fit; a part alone that is too long is cut. */
export function flow(
  parts: readonly string[],
  cells: number,
  { indent = "", between = " · " } = {},
): string[] {
  const lines: string[] = [];
  let line = "";
  for (const part of parts) {
    const joined = line === "" ? indent + part : line + between + part;
    if (line !== "" && cellsOf(joined) > cells) {
      lines.push(line);
      line = indent + part;
    } else line = joined;
  }
  if (line !== "") lines.push(line);
  return lines.map((one) => cutTo(one, cells));
}

function cellsOfLetter(letter: string): number {
  if (NO_CELLS.test(letter)) return 0;
  return WIDE.test(letter) ? 2 : 1;
}
