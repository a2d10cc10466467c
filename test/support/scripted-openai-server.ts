// Owns a model server in OpenAI's form whose words, and when they come, a test decides: for orders and for secrets.
import type { ServerResponse } from "node:http";
import { answerJson, type LoopbackServer, startLoopbackServer } from "./loopback-server.ts";

export type ScriptedAnswer = {
  response: ServerResponse;
  /** Sends one piece of text, one token by its count; resolves when it has left. */
  say(text: string): Promise<void>;
  /** Ends the answer as OpenAI does, with the usage that was asked for. */
  finish(promptTokens: number, completionTokens: number): void;
};

export type ScriptedOpenAiServer = LoopbackServer & {
  /** What came: path, headers and body of each generation. */
  requests: { headers: Record<string, unknown>; body: Record<string, unknown> }[];
};

/** Serves one model; each generation is handed to `play`, which may take its time. */
export async function startScriptedOpenAiServer(
  model: string,
  play: (answer: ScriptedAnswer) => Promise<void> | void,
): Promise<ScriptedOpenAiServer> {
  const requests: ScriptedOpenAiServer["requests"] = [];
  const server = await startLoopbackServer(async ({ path, headers, body }, response) => {
    if (path === "/v1/models") return answerJson(response, { object: "list", data: [{ id: model }] });
    requests.push({ headers, body: JSON.parse(body.toString()) });
    await play(answerOf(response));
  });
  return { ...server, requests };
}

function answerOf(response: ServerResponse): ScriptedAnswer {
  const send = (payload: object | "[DONE]") =>
    new Promise<void>((resolve) => {
      if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
      const data = payload === "[DONE]" ? payload : JSON.stringify(payload);
      response.write(`data: ${data}\n\n`, () => resolve());
    });
  const choice = (delta: object, finishReason: string | null) => ({
    choices: [{ index: 0, delta, finish_reason: finishReason }],
  });
  return {
    response,
    say: (content) => send(choice({ role: "assistant", content }, null)),
    finish(promptTokens, completionTokens) {
      void send(choice({}, "stop"));
      const usage = {
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        total_tokens: promptTokens + completionTokens,
      };
      void send({ choices: [], usage });
      void send("[DONE]");
      response.end();
    },
  };
}
