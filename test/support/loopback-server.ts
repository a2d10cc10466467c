// Owns a bare HTTP server on this machine, for tests that play a model server.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type LoopbackServer = { url: string; close(): Promise<void> };
export type LoopbackHandler = (
  request: { method: string; path: string; headers: IncomingMessage["headers"]; body: Buffer },
  response: ServerResponse,
) => Promise<void> | void;

/** Listens on a free port unless told another. */
export async function startLoopbackServer(handle: LoopbackHandler, port = 0): Promise<LoopbackServer> {
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    const { method = "", url = "", headers } = request;
    await handle({ method, path: url, headers, body: Buffer.concat(parts) }, response);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function answerJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
