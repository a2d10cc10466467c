// Owns changing a client's request where it must be another one for its node: its model's name, and how it goes on.

export type Json = Record<string, unknown>;

/** V8 shows a reviver how a number was written and writes a raw text as it is; TypeScript does not know both yet. */
type SourceJson = {
  parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): Json;
  rawJSON(text: string): unknown;
};

/**
 * A JSON body with some members replaced, or removed where undefined. All other numbers keep the digits they were
 * written with: a seed may have more of them than a double holds.
 */
export function changeBody(body: Uint8Array, changes: (read: Json) => Json): Uint8Array {
  const text = new TextDecoder().decode(body);
  const { parse, rawJSON } = JSON as unknown as SourceJson;
  const exact = parse(text, (_key, value, { source }) =>
    typeof value === "number" && source !== undefined ? rawJSON(source) : value,
  );
  return Buffer.from(JSON.stringify({ ...exact, ...changes(readBody(body)) }));
}

/** A body's members. It was read as a JSON object before. */
export function readBody(body: Uint8Array): Json {
  return JSON.parse(new TextDecoder().decode(body)) as Json;
}
