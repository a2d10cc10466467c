// Owns a terminal's whole screen while a view is on it: draws what changed, and gives the terminal back as it was.
import { clearLine, clearScreenDown, cursorTo } from "node:readline";
import type { ReadStream, WriteStream } from "node:tty";
import { cutTo } from "./layout.ts";

export type Screen = {
  size(): { columns: number; rows: number };
  /** Draws lines from the top, those alone that differ from what is there; longer ones are cut, lower ones left out. */
  draw(lines: readonly string[]): void;
  /** Gives the terminal back: what was on it is on it again. Idempotent. */
  close(): void;
};

export type ScreenOptions = {
  stdin: ReadStream;
  stdout: WriteStream;
  /** The size has changed, or the screen is ours again: what is on it is gone. */
  onChange(): void;
};

/** The alternate screen, no cursor, and lines that are cut rather than wrapped while the size changes. */
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/** A terminal that says no size. */
const USUAL_SIZE = { columns: 80, rows: 24 };
const CTRL_C = "\x03";
const CTRL_L = "\x0c";
const CTRL_Z = "\x1a";

/** Takes the screen. Keys are read so that none is shown: Ctrl-C and Ctrl-Z do what they always do, Ctrl-L draws anew. */
export function openScreen({ stdin, stdout, onChange }: ScreenOptions): Screen {
  let drawn: string[] = [];
  let isOpen = false;

  const forget = () => {
    drawn = [];
    cursorTo(stdout, 0, 0);
    clearScreenDown(stdout);
    onChange();
  };
  const leave = () => {
    if (!isOpen) return;
    isOpen = false;
    if (stdin.isTTY) stdin.setRawMode(false);
    stdout.write(LEAVE);
  };
  const enter = () => {
    if (isOpen) return;
    isOpen = true;
    if (stdin.isTTY) stdin.setRawMode(true);
    stdout.write(ENTER);
    drawn = [];
  };
  const resume = () => {
    enter();
    forget();
  };
  const onKeys = (keys: Buffer) => {
    const text = keys.toString();
    if (text.includes(CTRL_C)) process.kill(process.pid, "SIGINT");
    else if (text.includes(CTRL_Z)) {
      leave();
      process.once("SIGCONT", resume);
      process.kill(process.pid, "SIGTSTP");
    } else if (text.includes(CTRL_L)) forget();
  };

  enter();
  if (stdin.isTTY) stdin.on("data", onKeys);
  stdout.on("resize", forget);
  // However the process ends, its last words come after the terminal is as it was.
  process.on("exit", leave);
  process.on("uncaughtExceptionMonitor", leave);
  const size = () => ({
    columns: stdout.columns || USUAL_SIZE.columns,
    rows: stdout.rows || USUAL_SIZE.rows,
  });
  return {
    size,
    draw(lines) {
      if (!isOpen) return;
      const { columns, rows } = size();
      const shown = lines.slice(0, rows).map((line) => cutTo(line, columns));
      shown.forEach((line, row) => {
        if (line === drawn[row]) return;
        cursorTo(stdout, 0, row);
        stdout.write(line);
        clearLine(stdout, 1);
      });
      if (shown.length < drawn.length) {
        cursorTo(stdout, 0, shown.length);
        clearScreenDown(stdout);
      }
      drawn = shown;
    },
    close() {
      leave();
      stdin.off("data", onKeys);
      stdin.pause();
      stdout.off("resize", forget);
      process.off("SIGCONT", resume);
      process.off("exit", leave);
      process.off("uncaughtExceptionMonitor", leave);
    },
  };
}
