import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { mock } from "node:test";
import { expect } from "chai";
import fc from "fast-check";
import { createHttpServer, type HttpServer } from "../../runtime/http-server.ts";
import { createLogger } from "../../runtime/logger.ts";
import { openSse, readSse, type SseEvent, type SseWriter } from "../../runtime/sse.ts";
import { failureOf } from "../support/machine.ts";
import { holdsAsync } from "../support/properties.ts";

async function* streamOf(...parts: Uint8Array[]) {
  yield* parts;
}

async function collect(
  body: AsyncIterable<Uint8Array>,
  options?: { maxEventLength?: number },
): Promise<SseEvent[]> {
  const events: SseEvent[] = [];
  for await (const event of readSse(body, options)) events.push(event);
  return events;
}

describe("event stream reader", () => {
  it("reads the same events wherever the bytes are cut, inside characters too", async () => {
    const text = fc
      .string({ unit: "grapheme", maxLength: 12 })
      .map((value) => value.replaceAll(/[\r\n\0]/g, "ü"));
    const event = fc.record({ id: fc.nat(), data: text });
    const property = fc.asyncProperty(
      fc.array(event, { maxLength: 6 }),
      fc.array(fc.nat(400), { maxLength: 12 }),
      fc.constantFrom("\n", "\r\n", "\r"),
      async (events, cuts, newline) => {
        const lines = events.flatMap(({ id, data }) => [`id: ${id}`, `data: ${data}`, ""]);
        const bytes = Buffer.from([": hello", "", ...lines, ""].join(newline));
        const places = [
          0,
          ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b),
          bytes.length,
        ];
        const parts = places.slice(1).map((place, index) => bytes.subarray(places[index], place));
        const expected = events.map(({ id, data }) => ({ id: String(id), event: undefined, data }));
        // A last lone CR may be half of a CRLF, so the reader may wait for what follows it.
        expect(await collect(streamOf(...parts, Buffer.from(":\n")))).to.deep.equal(expected);
      },
    );
    await holdsAsync(property);
  });

  it("drops an event that the end of the stream cut off", async () => {
    expect(await collect(streamOf(Buffer.from("data: whole\n\ndata: ha")))).to.have.length(1);
    expect(await collect(streamOf(Buffer.from("data: not closed\n")))).to.deep.equal([]);
  });

  it("hands out what came before an event that is too large, then stops", async () => {
    const limit = { maxEventLength: 100 };
    const large = `data: ${"x".repeat(101)}`;
    for (const text of [`${large}\n\n`, large, "data: xxxxxxxxxx\n".repeat(20)]) {
      const seen: string[] = [];
      const error = await failureOf(async () => {
        for await (const { data } of readSse(
          streamOf(Buffer.from("data: first\n\n"), Buffer.from(text)),
          limit,
        )) {
          seen.push(data);
        }
      });
      expect(error.code).to.equal("node-misbehaved");
      expect(seen).to.deep.equal(["first"]);
    }
    expect(await collect(streamOf(Buffer.from(`data: ${"x".repeat(90)}\n\n`)), limit)).to.have.length(1);
  });

  it("is not held up by a flood of lines that are no events", async () => {
    const flood = Buffer.from(`${"x".repeat(1_000)}\n`.repeat(1_000));
    expect(
      await collect(streamOf(flood, Buffer.from("\ndata: after\n\n")), { maxEventLength: 100 }),
    ).to.have.length(1);
  });

  it("refuses bytes that are not UTF-8", async () => {
    const error = await failureOf(() => collect(streamOf(Buffer.from([0x64, 0xff, 0xfe, 0x0a]))));
    expect(error.code).to.equal("node-misbehaved");
  });
});

describe("event stream writer", () => {
  let server: HttpServer;
  let port: number;
  let handle: (writer: SseWriter) => void;

  before(async () => {
    const log = createLogger({ level: "silent" });
    server = await createHttpServer({
      host: "127.0.0.1",
      port: 0,
      certificate: null,
      log,
      maxBodyBytes: 1_000,
    });
    server.app.get("/events", (_request, reply) => {
      reply.header("x-kept", "yes");
      handle(openSse(reply, { "infernet-extra": "1" }));
    });
    ({ port } = await server.listen());
  });
  after(() => server.stop(0));

  const open = () => fetch(`http://127.0.0.1:${port}/events`);

  /** A client that has asked for the events and reads no further than the first byte of the answer. */
  async function openRaw(): Promise<{ socket: Socket; writer: SseWriter }> {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    const opened = new Promise<SseWriter>((resolve) => {
      handle = resolve;
    });
    socket.write("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    return { socket, writer: await opened };
  }

  it("answers at once, before the first event", async () => {
    let writer: SseWriter | undefined;
    handle = (opened) => {
      writer = opened;
    };
    const answer = await open();
    expect(answer.status).to.equal(200);
    expect(Object.fromEntries(answer.headers)).to.include({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "private, no-store",
      "x-accel-buffering": "no",
      "x-kept": "yes",
      "infernet-extra": "1",
    });
    writer!.end();
    expect(await answer.text()).to.equal("");
  });

  it("writes events that the reader reads back", async () => {
    const events = [
      { id: 1, data: '{"text":"naïve 🔥"}' },
      { event: "infernet", data: '{"type":"need"}' },
      { id: 2, event: "both", data: "two\nlines" },
      { data: "" },
    ];
    handle = (writer) => {
      for (const event of events) writer.send(event);
      writer.heartbeat();
      writer.end();
      writer.end();
      writer.send({ data: "too late" });
    };
    const answer = await open();
    const expected = events.map(({ id, event, data }) => ({ id: id?.toString(), event, data }));
    expect(await collect(answer.body as AsyncIterable<Uint8Array>)).to.deep.equal(expected);
  });

  it("writes the bytes that transcripts are made of, and heartbeats as comments", async () => {
    handle = (writer) => {
      writer.send({ id: 1, data: "[DONE]" });
      writer.heartbeat();
      writer.end();
    };
    expect(await (await open()).text()).to.equal("id: 1\ndata: [DONE]\n\n:\n\n");
  });

  it("sends a heartbeat every 15 s until the end", async () => {
    mock.timers.enable({ apis: ["setInterval"] });
    try {
      let opened: SseWriter | undefined;
      handle = (writer) => {
        opened = writer;
      };
      const answer = await open();
      mock.timers.tick(14_999);
      opened!.send({ data: "before" });
      mock.timers.tick(1);
      mock.timers.tick(15_000);
      opened!.end();
      mock.timers.tick(60_000);
      expect(await answer.text()).to.equal("data: before\n\n:\n\n:\n\n");
    } finally {
      mock.timers.reset();
    }
  });

  it("waits in flushed for a client that does not read, and goes on when it does", async () => {
    const { socket, writer } = await openRaw();
    socket.pause();
    await writer.flushed();
    for (let id = 1; id <= 64; id++) writer.send({ id, data: "x".repeat(256 * 1024) });
    let flushed = false;
    const flushing = writer.flushed().then(() => {
      flushed = true;
    });
    // Another client's whole trip is time enough for a flush that does not wait.
    handle = (other) => other.end();
    await (await open()).text();
    expect(flushed).to.equal(false);
    socket.resume();
    await flushing;
    expect(writer.closed.aborted).to.equal(false);
    socket.destroy();
  });

  it("tells that the client went away, frees who waits in flushed, and drops what is sent afterwards", async () => {
    const { socket, writer } = await openRaw();
    socket.pause();
    for (let id = 1; id <= 64; id++) writer.send({ id, data: "x".repeat(256 * 1024) });
    const flushing = writer.flushed();
    const closed = once(writer.closed, "abort");
    socket.destroy();
    await Promise.all([closed, flushing]);
    writer.send({ data: "nobody hears" });
    writer.heartbeat();
    await writer.flushed();
    writer.end();
  });

  it("notices a client that leaves while nothing is written", async () => {
    const { socket, writer } = await openRaw();
    const closed = once(writer.closed, "abort");
    socket.end();
    await closed;
  });

  it("does not call its own end a client that went away", async () => {
    let writer: SseWriter | undefined;
    handle = (opened) => {
      writer = opened;
      opened.end();
    };
    await (await open()).text();
    expect(writer!.closed.aborted).to.equal(false);
  });
});
