// Owns a false OpenAI-compatible server that fails in one chosen way, for tests of what clients make of it.
import type { ServerResponse } from "node:http";
import { answerJson, type LoopbackServer, startLoopbackServer } from "./loopback-server.ts";

const PIECE = JSON.stringify({ choices: [{ index: 0, delta: { content: "half" }, finish_reason: null }] });

/** Each fault is named by what happens; all but the refusals send one good piece first. */
export const OPENAI_FAULTS = {
  "refuses with 400": (response: ServerResponse) =>
    answerJson(
      response,
      { error: { message: "your prompt was SECRET", code: "context_length_exceeded", param: "messages" } },
      400,
    ),
  "does not know the model": (response: ServerResponse) =>
    answerJson(response, { error: { message: "The model does not exist", code: "model_not_found" } }, 404),
  "is overloaded": (response: ServerResponse) => response.writeHead(503).end("<html>busy</html>"),
  "breaks the connection": (response: ServerResponse) => startStream(response, () => response.destroy()),
  "ends without a last piece": (response: ServerResponse) => startStream(response, () => response.end()),
  "sends an error piece": (response: ServerResponse) =>
    startStream(response, () => response.end('data: {"error":{"message":"out of memory"}}\n\n')),
  "sends what is not JSON": (response: ServerResponse) =>
    startStream(response, () => response.end("data: {oops\n\n")),
  "counts in fractions": (response: ServerResponse) =>
    startStream(response, () =>
      response.end('data: {"choices":[],"usage":{"prompt_tokens":1.5}}\n\ndata: [DONE]\n\n'),
    ),
  "falls silent": (response: ServerResponse) => startStream(response, () => {}),
} as const;

export function startFaultyOpenAiServer(fault: keyof typeof OPENAI_FAULTS): Promise<LoopbackServer> {
  return startLoopbackServer((_request, response) => {
    OPENAI_FAULTS[fault](response);
  });
}

function startStream(response: ServerResponse, then: () => void): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(`data: ${PIECE}\n\n`, then);
}
