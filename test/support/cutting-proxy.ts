// Owns a line that breaks: a TCP proxy before a node that cuts every connection after so many bytes of the node's.
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type CuttingProxy = {
  /** From now on cuts everything each time that so many more bytes have come from the node, in this order. */
  cutAfter(byteCounts: readonly number[]): void;
  /** How many cuts have happened. */
  cuts: number;
  close(): Promise<void>;
};

/** Listens on `port` and passes bytes to and from `nodePort` as they are; TLS goes through unread. */
export async function startCuttingProxy(port: number, nodePort: number): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let left: number[] = [];
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  };
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  /** The part of some bytes that still comes through; cuts when it is not all. */
  const pass = (bytes: Buffer): Buffer => {
    const until = left[0] ?? Number.POSITIVE_INFINITY;
    if (bytes.length < until) {
      if (left.length > 0) left[0] = until - bytes.length;
      return bytes;
    }
    left.shift();
    proxy.cuts += 1;
    return bytes.subarray(0, until);
  };

  const listener = createServer((client) => {
    const node = connect(nodePort, "127.0.0.1");
    keep(client);
    keep(node);
    client.pipe(node);
    node.on("data", (bytes) => {
      const { cuts } = proxy;
      const passed = pass(bytes);
      if (proxy.cuts === cuts) client.write(passed);
      else client.write(passed, cut);
    });
    node.once("close", () => client.destroy());
    client.once("close", () => node.destroy());
  });
  const proxy: CuttingProxy = {
    cuts: 0,
    cutAfter(byteCounts) {
      left = [...byteCounts];
    },
    async close() {
      cut();
      listener.close();
      await once(listener, "close");
    },
  };
  listener.listen(port, "127.0.0.1");
  await once(listener, "listening");
  return proxy;
}
