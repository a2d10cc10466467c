// Owns a worker's view while it works: what it listens to, when it draws, and what it leaves behind.
import { Writable } from "node:stream";
import type { ReadStream, WriteStream } from "node:tty";
import type { Provider } from "../../provider/start.ts";
import { type Output, printable } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { renderProviderEvent } from "../worker-events.ts";
import { openScreen, type Screen } from "./screen.ts";
import { type Happening, renderWorkerView } from "./worker-view.ts";

export type LiveView = {
  /** Where log lines go: on the screen they are happenings; if it is never taken, `close` brings them to stderr. */
  readonly log: Writable;
  /** Takes the screen and shows this provider. */
  show(provider: Provider): void;
  /** Shows what the provider's stop waits for. */
  showStopping(): void;
  /** Gives the screen back. Idempotent. */
  close(): void;
};

/** Two frames are at least so far apart, and figures that move by themselves are looked at so often. */
const FRAME_MS = 250;
const LOOK_MS = 1_000;
const KEPT_HAPPENINGS = 50;

/** A view that is not on the screen yet. */
export function createLiveView({ stdin, stdout, stderr, isWatched }: Terminal, output: Output): LiveView {
  const happenings: Happening[] = [];
  /** Log lines from before the screen is taken. */
  const held: string[] = [];
  let screen: Screen | undefined;
  let provider: Provider | undefined;
  let isStopping = false;
  let isClosed = false;
  let nextFrame: NodeJS.Timeout | undefined;
  let look: NodeJS.Timeout | undefined;
  let drawnAt = 0;

  const draw = () => {
    nextFrame = undefined;
    if (!screen || !provider) return;
    drawnAt = performance.now();
    const scene = { snapshot: provider.snapshot(), isStopping, happenings };
    screen.draw(renderWorkerView(scene, screen.size(), output.style));
  };
  const drawSoon = () => {
    if (!screen) return;
    nextFrame ??= setTimeout(draw, Math.max(0, drawnAt + FRAME_MS - performance.now()));
  };
  const add = (text: string) => {
    // What the provider tells as an event it writes to its log as well.
    if (text === "" || happenings.at(-1)?.text === text) return;
    happenings.push({ at: new Date(), text });
    happenings.splice(0, happenings.length - KEPT_HAPPENINGS);
    drawSoon();
  };

  return {
    log: new Writable({
      decodeStrings: false,
      write(line: string | Buffer, _encoding, done) {
        const text = line.toString();
        if (!isWatched || isClosed) stderr.write(text);
        else if (screen) add(textOfLogLine(text));
        else held.push(text);
        done();
      },
    }),
    show(shown) {
      provider = shown;
      provider.subscribe((event) => {
        add(renderProviderEvent(event));
        drawSoon();
      });
      screen = openScreen({
        stdin: stdin as ReadStream,
        stdout: stdout as WriteStream,
        onChange: drawSoon,
      });
      for (const line of held.splice(0)) add(textOfLogLine(line));
      look = setInterval(drawSoon, LOOK_MS);
      draw();
    },
    showStopping() {
      isStopping = true;
      drawSoon();
    },
    close() {
      isClosed = true;
      clearTimeout(nextFrame);
      clearInterval(look);
      screen?.close();
      screen = undefined;
      for (const line of held.splice(0)) stderr.write(line);
    },
  };
}

/** A log line as an event would read that tells the same; empty where an event has told it already. */
function textOfLogLine(line: string): string {
  try {
    const { message = "", job } = JSON.parse(line) as { message?: string; job?: string };
    const isEventName = /^[a-z]+[A-Za-z]*$/.test(message);
    return isEventName ? "" : `error${job ? ` ${job.slice(0, 10)}` : ""}: ${printable(message)}`;
  } catch {
    return printable(line);
  }
}
