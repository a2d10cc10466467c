// Owns requests that no well-behaved client sends: the head is written line by line.
import { once } from "node:events";
import { connect } from "node:net";

export type RawAnswer = {
  status: number;
  head: string;
  headers: Record<string, string>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows the form of the answer that it asks for.
  json: any;
};

/** Asks a port of this machine; without a Content-Length among the lines, the body's own is sent. */
export function createRawRequest(port: number) {
  return async (route: string, lines: readonly string[], body = ""): Promise<RawAnswer> => {
    const length = lines.some((line) => /^content-length:/i.test(line))
      ? []
      : [`Content-Length: ${Buffer.byteLength(body)}`];
    const head = [`${route} HTTP/1.1`, ...lines, ...length, "Connection: close"].join("\r\n");
    const socket = connect(port, "127.0.0.1");
    let answer = "";
    socket.on("error", () => {});
    socket.setEncoding("utf8").on("data", (text: string) => {
      answer += text;
    });
    socket.write(`${head}\r\n\r\n${body}`);
    await once(socket, "close");
    return readAnswer(answer);
  };
}

function readAnswer(answer: string): RawAnswer {
  const end = answer.indexOf("\r\n\r\n");
  const head = answer.slice(0, end);
  const [first = "", ...lines] = head.split("\r\n");
  const headers = lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  const text = answer.slice(end + 4);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: Number(first.split(" ")[1]), head, headers: Object.fromEntries(headers), text, json };
}
