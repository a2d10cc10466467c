// Owns the model server of the measurements: a process that speaks OpenAI's form over real HTTP and keeps an exact pace.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** Until the first token, as a model that reads its prompt; then one token each so often. */
const FIRST_TOKEN_MS = 50;
const TOKENS_PER_SECOND = 100;
const PROMPT_TOKENS = 2;

const server = createServer(async (request, response) => {
  const body = await readBody(request);
  if (request.url === "/v1/models") {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ object: "list", data: [{ id: "paced", max_model_len: 8192 }] }));
  } else play(response, (JSON.parse(body) as { max_tokens: number }).max_tokens);
});

/** The tokens that are due by the clock leave together, so that a late timer slows nothing down. */
function play(response: ServerResponse, tokens: number): void {
  const startsAt = performance.now() + FIRST_TOKEN_MS;
  let sent = 0;
  response.writeHead(200, { "content-type": "text/event-stream" });
  const step = () => {
    const due = 1 + Math.floor(((performance.now() - startsAt) * TOKENS_PER_SECOND) / 1000);
    for (; sent < Math.min(due, tokens); sent++) send({ choices: [choiceOf({ content: `w${sent} ` })] });
    if (sent === tokens || response.destroyed) return finish();
    setTimeout(step, Math.max(1, startsAt + (sent * 1000) / TOKENS_PER_SECOND - performance.now()));
  };
  const send = (chunk: object) => {
    const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "paced" };
    response.write(`data: ${JSON.stringify({ ...head, ...chunk })}\n\n`);
  };
  const finish = () => {
    send({ choices: [{ ...choiceOf({}), finish_reason: "stop" }] });
    send({ choices: [], usage: { prompt_tokens: PROMPT_TOKENS, completion_tokens: sent } });
    response.end("data: [DONE]\n\n");
  };
  setTimeout(step, FIRST_TOKEN_MS);
}

function choiceOf(delta: object) {
  return { index: 0, delta: { role: "assistant", ...delta }, finish_reason: null };
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of request.setEncoding("utf8")) text += part;
  return text;
}

server.listen(0, "127.0.0.1", () => {
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
});
process.on("disconnect", () => process.exit());
