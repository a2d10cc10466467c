// Owns asking a person: every question goes through here, and none is asked where nobody could answer.
import type { PromptObject } from "prompts";
import { InfernetError } from "../protocol/errors.ts";
import type { Terminal } from "./terminal.ts";

/** `missing` names what to give instead where there is nobody to ask, such as `--payee ADDRESS`. */
type Question = { message: string; missing: string };

export type Prompter = {
  canAsk: boolean;
  text(question: Question & { initial?: string; validate?(value: string): true | string }): Promise<string>;
  secret(question: Question & { validate?(value: string): true | string }): Promise<string>;
  confirm(question: Question & { initial: boolean }): Promise<boolean>;
  choose<T>(question: Question & { choices: readonly { title: string; value: T }[] }): Promise<T>;
  chooseMany<T>(question: Question & { choices: readonly { title: string; value: T }[] }): Promise<T[]>;
};

export function createPrompter(terminal: Pick<Terminal, "canAsk" | "stdin" | "stderr">): Prompter {
  async function ask(
    question: Question,
    form: Omit<PromptObject<"value">, "name" | "message">,
  ): Promise<unknown> {
    if (!terminal.canAsk) {
      throw new InfernetError(
        "bad-config",
        `${question.missing} is missing, and there is no terminal to ask in`,
        {
          hint: `Give ${question.missing}.`,
        },
      );
    }
    const { default: prompts } = await import("prompts");
    let answered = true;
    const answer = await prompts(
      {
        ...form,
        name: "value",
        message: question.message,
        stdin: terminal.stdin,
        // Questions go to stderr: stdout may be piped on.
        stdout: terminal.stderr,
      },
      {
        onCancel: () => {
          answered = false;
        },
      },
    );
    if (!answered) throw new InfernetError("interrupted", "interrupted");
    return answer.value;
  }

  return {
    canAsk: terminal.canAsk,
    text: async (question) =>
      String(
        await ask(question, { type: "text", initial: question.initial, validate: question.validate }),
      ).trim(),
    secret: async (question) =>
      String(await ask(question, { type: "password", validate: question.validate })),
    confirm: async (question) =>
      (await ask(question, { type: "confirm", initial: question.initial })) === true,
    choose: async <T>(question: Question & { choices: readonly { title: string; value: T }[] }) =>
      (await ask(question, { type: "select", choices: [...question.choices] })) as T,
    chooseMany: async <T>(question: Question & { choices: readonly { title: string; value: T }[] }) =>
      (await ask(question, {
        type: "multiselect",
        choices: question.choices.map((choice) => ({ ...choice, selected: true })),
        min: 1,
        instructions: false,
        hint: "space marks, enter accepts",
      })) as T[],
  };
}
