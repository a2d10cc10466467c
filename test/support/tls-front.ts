// Owns what stands in a node's place on the network: the node itself behind its own TLS key, or an impostor with another.
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { connect, createServer as createTlsServer, type TLSSocket, type TlsOptions } from "node:tls";
import type { Certificate } from "../../runtime/certificate.ts";

/** What the impostor saw: connections, sessions that were resumed, and the application's bytes. */
export type Impostor = { connections: number; resumed: number; bytes: string };

export type TlsFront = {
  impostor: Impostor;
  /** Who takes the next connections. */
  route: "node" | "impostor";
  /** How many connections the node still gets before the impostor takes its place. */
  nodeConnectionsLeft: number;
  /** What the impostor answers to whatever it is sent; nothing unless set. */
  impostorAnswer: string | undefined;
  /** Cuts every connection that stands. */
  cut(): void;
  close(): Promise<void>;
};

export type TlsFrontOptions = {
  port: number;
  /** Where the node really listens. */
  nodePort: number;
  /** The node's own key: with it the front speaks as the node does. */
  genuine: Certificate;
  impostor: Certificate;
};

/** Both faces keep sessions under the same ticket keys, so that the impostor could resume what the node began. */
export async function startTlsFront(options: TlsFrontOptions): Promise<TlsFront> {
  const ticketKeys = Buffer.alloc(48, 7);
  const sockets = new Set<Socket>();
  const impostor: Impostor = { connections: 0, resumed: 0, bytes: "" };
  const faces = {
    node: createFace({ ...pemOf(options.genuine), ticketKeys }, (client) => {
      const node = connect({ host: "127.0.0.1", port: options.nodePort, rejectUnauthorized: false });
      node.on("error", () => client.destroy());
      client.on("close", () => node.destroy());
      node.on("close", () => client.destroy());
      client.pipe(node).pipe(client);
    }),
    impostor: createFace({ ...pemOf(options.impostor), ticketKeys }, (client) => {
      if (client.isSessionReused()) impostor.resumed += 1;
      client.on("data", (bytes) => {
        impostor.bytes += bytes.toString();
        if (front.impostorAnswer !== undefined) client.end(front.impostorAnswer);
      });
    }),
  };
  const listener: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    if (front.route === "node" && front.nodeConnectionsLeft-- <= 0) front.route = "impostor";
    if (front.route === "impostor") impostor.connections += 1;
    faces[front.route].emit("connection", socket);
  });
  const front: TlsFront = {
    impostor,
    route: "node",
    nodeConnectionsLeft: Number.POSITIVE_INFINITY,
    impostorAnswer: undefined,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    async close() {
      front.cut();
      listener.close();
      await once(listener, "close");
    },
  };
  listener.listen(options.port, "127.0.0.1");
  await once(listener, "listening");
  return front;
}

function createFace(options: TlsOptions, take: (client: TLSSocket) => void) {
  const face = createTlsServer({ ...options, ALPNProtocols: ["http/1.1"] }, (client) => {
    client.on("error", () => {});
    take(client);
  });
  face.on("tlsClientError", () => {});
  return face;
}

function pemOf({ keyPem, certificatePem }: Certificate): TlsOptions {
  return { key: keyPem, cert: certificatePem };
}
