// Owns an RPC that misbehaves on purpose: it stands before a real chain and spoils the calls that a test picks.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** What becomes of one call; "lose-answer" lets it happen and hangs up before answering. */
export type Fault =
  | "pass"
  | "hang-up"
  | "lose-answer"
  | { status: number }
  | { error: { code: number; message: string; data?: unknown } }
  | { result: unknown };

export type FaultyRpc = {
  url: string;
  /** Decides per call; replace it at any time. */
  faultOf(method: string, params: unknown[]): Fault;
  /** The methods that were asked for, in order. */
  calls: string[];
  stop(): Promise<void>;
};

/** Starts a misbehaving RPC before `target`; it passes everything on until `faultOf` is replaced. */
export async function startFaultyRpc(target: string): Promise<FaultyRpc> {
  const server = createServer(async (request, response) => {
    const parts: Buffer[] | undefined = await request.toArray().catch(() => undefined);
    if (parts === undefined) return; // Its sender died in the middle of it.
    const body = Buffer.concat(parts).toString();
    const { id, method, params } = JSON.parse(body) as { id: number; method: string; params: unknown[] };
    faulty.calls.push(method);
    const fault = faulty.faultOf(method, params);
    if (fault === "hang-up") return request.socket.destroy();
    if (typeof fault === "object" && "status" in fault) return response.writeHead(fault.status).end("busy");
    if (typeof fault === "object") return response.end(JSON.stringify({ jsonrpc: "2.0", id, ...fault }));
    const headers = { "content-type": "application/json" };
    const answer = await (await fetch(target, { method: "POST", headers, body })).text();
    if (fault === "lose-answer") return request.socket.destroy();
    return response.end(answer);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const faulty: FaultyRpc = {
    url: `http://127.0.0.1:${port}`,
    faultOf: () => "pass",
    calls: [],
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return faulty;
}
