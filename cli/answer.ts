// Owns how a streamed answer reaches stdout: in order, as it comes, and harmless where a person's terminal shows it.
import type { Context } from "./context.ts";

export type AnswerWriter = {
  write(text: string): void;
  /** Ends the answer with a line break and resolves when the reader has taken everything. */
  end(): Promise<void>;
  /** Ends an answer that was cut off: what arrived of it was paid for, so a program gets it, too. */
  endEarly(): Promise<void>;
};

/** Everything but tabs and line breaks that could make a terminal do more than show letters. */
const TERMINAL_CONTROLS = /(?![\t\n])[\p{Cc}\p{Cf}]/gu;

/** With --json nothing is written meanwhile: the whole answer is in the result. */
export function createAnswerWriter({ output, terminal }: Pick<Context, "output" | "terminal">): AnswerWriter {
  let arrived = "";
  let last = "\n";
  let written: Promise<void> = Promise.resolve();

  async function end() {
    if (last !== "\n") written = output.write("\n");
    await written;
  }

  return {
    write(text) {
      arrived += text;
      if (output.json || text === "") return;
      const shown = terminal.isRead ? text.replace(TERMINAL_CONTROLS, "") : text;
      last = shown.at(-1) ?? last;
      written = output.write(shown);
    },
    end,
    async endEarly() {
      if (output.json && arrived !== "") output.result({ partial: true, text: arrived }, () => "");
      await end();
    },
  };
}
