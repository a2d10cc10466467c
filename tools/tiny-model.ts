// Owns the tiny language model that tests run: a llama with random weights, half a megabyte, written as GGUF v3.
// Run as a command it writes one: `tsx tools/tiny-model.ts FILE [SEED]`.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const SIZES = { width: 64, layers: 2, heads: 4, keyHeads: 2, feedForward: 128, contextLength: 2048 };
const ALIGNMENT = 32;
/** What GGUF calls the type of a metadata value. */
const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, boolean: 7, string: 8, array: 9 } as const;
/** What llama.cpp calls the kind of a token. */
const TOKEN_KINDS = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;
const WORDS =
  "the of and to in is that for it as was with be by on not he this are or from at which but have an had they you " +
  "were one all we can her has there been if more when will would who so no hello world model token job price pays";
const OTHER_TEXTS = ["▁", "é", "漢", "🌍", "\n"];
const CHAT_TEMPLATE =
  "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

type VocabularyEntry = { text: string; kind: number };
type Tensor = { name: string; shape: number[]; values: Float32Array };

/** Writes the model to a file. The same seed gives the same bytes. */
export function writeTinyModel(path: string, seed = 1): void {
  const vocabulary = listVocabulary();
  const tensors = listTensors(vocabulary, createGaussian(seed));
  writeFileSync(path, encodeModel(listMetadata(vocabulary), tensors));
}

/** Control tokens, one token for each byte, then words and printable characters: any text can be tokenized. */
function listVocabulary(): VocabularyEntry[] {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const printable = Array.from({ length: 94 }, (_, offset) => String.fromCharCode(33 + offset));
  // A tokenizer of this kind builds a word letter by letter: it needs a token for each start of it.
  const starts = WORDS.split(" ").flatMap((word) =>
    Array.from(word, (_, end) => `▁${word.slice(0, end + 1)}`),
  );
  const words = [...new Set(starts)].toSorted((one, other) => one.length - other.length);
  return [
    { text: "<unk>", kind: TOKEN_KINDS.unknown },
    { text: "<s>", kind: TOKEN_KINDS.control },
    { text: "</s>", kind: TOKEN_KINDS.control },
    ...bytes.map((text) => ({ text, kind: TOKEN_KINDS.byte })),
    ...[...words, ...OTHER_TEXTS, ...printable].map((text) => ({ text, kind: TOKEN_KINDS.normal })),
  ];
}

function listTensors(vocabulary: VocabularyEntry[], gaussian: () => number): Tensor[] {
  const { width, layers, heads, keyHeads, feedForward } = SIZES;
  const keyWidth = (width / heads) * keyHeads;
  const ones = (name: string): Tensor => ({ name, shape: [width], values: new Float32Array(width).fill(1) });
  const random = (name: string, columns: number, rows: number, scale = 1): Tensor => {
    const spread = scale / Math.sqrt(columns);
    return {
      name,
      shape: [columns, rows],
      values: Float32Array.from({ length: columns * rows }, () => gaussian() * spread),
    };
  };
  const layerTensors = Array.from({ length: layers }, (_, layer) => {
    const name = (part: string) => `blk.${layer}.${part}.weight`;
    return [
      ones(name("attn_norm")),
      random(name("attn_q"), width, width),
      random(name("attn_k"), width, keyWidth),
      random(name("attn_v"), width, keyWidth),
      random(name("attn_output"), width, width),
      ones(name("ffn_norm")),
      random(name("ffn_gate"), width, feedForward),
      random(name("ffn_up"), width, feedForward),
      random(name("ffn_down"), feedForward, width),
    ];
  });
  const output = random("output.weight", width, vocabulary.length, 4);
  // Texts are far likelier than bytes and control tokens, so that streams are readable and seldom end early.
  vocabulary.forEach(({ kind }, row) => {
    if (kind === TOKEN_KINDS.normal) return;
    for (let column = 0; column < width; column++) output.values[row * width + column]! *= 0.05;
  });
  const embeddings = random("token_embd.weight", width, vocabulary.length);
  return [embeddings, ...layerTensors.flat(), ones("output_norm.weight"), output];
}

function listMetadata(vocabulary: VocabularyEntry[]): Buffer[] {
  const { width, layers, heads, keyHeads, feedForward, contextLength } = SIZES;
  const scores = vocabulary.map((_, rank) => -rank);
  return [
    text("general.architecture", "llama"),
    text("general.name", "infernet-tiny-random"),
    number("general.alignment", ALIGNMENT),
    number("llama.context_length", contextLength),
    number("llama.embedding_length", width),
    number("llama.block_count", layers),
    number("llama.feed_forward_length", feedForward),
    number("llama.attention.head_count", heads),
    number("llama.attention.head_count_kv", keyHeads),
    number("llama.rope.dimension_count", width / heads),
    number("llama.vocab_size", vocabulary.length),
    member("llama.attention.layer_norm_rms_epsilon", VALUE_TYPES.float32, float32(1e-5)),
    text("tokenizer.ggml.model", "llama"),
    list(
      "tokenizer.ggml.tokens",
      VALUE_TYPES.string,
      vocabulary.map(({ text }) => string(text)),
    ),
    list("tokenizer.ggml.scores", VALUE_TYPES.float32, scores.map(float32)),
    list(
      "tokenizer.ggml.token_type",
      VALUE_TYPES.int32,
      vocabulary.map(({ kind }) => uint32(kind)),
    ),
    number("tokenizer.ggml.unknown_token_id", 0),
    number("tokenizer.ggml.bos_token_id", 1),
    number("tokenizer.ggml.eos_token_id", 2),
    member("tokenizer.ggml.add_bos_token", VALUE_TYPES.boolean, Buffer.of(1)),
    text("tokenizer.chat_template", CHAT_TEMPLATE),
  ];
}

function encodeModel(metadata: Buffer[], tensors: Tensor[]): Buffer {
  const header = [
    Buffer.from("GGUF"),
    uint32(3),
    uint64(tensors.length),
    uint64(metadata.length),
    ...metadata,
  ];
  const data: Buffer[] = [];
  let offset = 0;
  for (const { name, shape, values } of tensors) {
    const float32Type = 0;
    header.push(
      string(name),
      uint32(shape.length),
      ...shape.map(uint64),
      uint32(float32Type),
      uint64(offset),
    );
    const bytes = padded(Buffer.from(values.buffer));
    data.push(bytes);
    offset += bytes.length;
  }
  return Buffer.concat([padded(Buffer.concat(header)), ...data]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);
}

function member(key: string, valueType: number, value: Buffer): Buffer {
  return Buffer.concat([string(key), uint32(valueType), value]);
}

function number(key: string, value: number): Buffer {
  return member(key, VALUE_TYPES.uint32, uint32(value));
}

function text(key: string, value: string): Buffer {
  return member(key, VALUE_TYPES.string, string(value));
}

function list(key: string, itemType: number, items: Buffer[]): Buffer {
  return member(key, VALUE_TYPES.array, Buffer.concat([uint32(itemType), uint64(items.length), ...items]));
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function float32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

/** Normally distributed numbers (Box and Muller) from a seeded 32-bit generator (xorshift). */
function createGaussian(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  const uniform = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file = "tiny.gguf", seed = "1"] = process.argv.slice(2);
  writeTinyModel(file, Number(seed));
}
