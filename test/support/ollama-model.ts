// Owns how tests make a model in an Ollama from a GGUF file, through its own API.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

export type OllamaModel = {
  name: string;
  /** A GGUF file. */
  file: string;
  /** A prompt template in Go's language. */
  template: string;
  parameters?: Record<string, unknown>;
};

/** For the tiny model: words of roles, as its own template in GGUF has them. */
export const ROLES_TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant: ";

/** For SmolLM2 and others that were taught with it. */
export const CHATML_TEMPLATE =
  "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";

/** Makes the model, or makes it anew, in the server at `url`. */
export async function createOllamaModel(url: string, model: OllamaModel): Promise<void> {
  const bytes = readFileSync(model.file);
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  await callOllama(url, `/api/blobs/${digest}`, bytes);
  const { name, template, parameters = {} } = model;
  const files = { "model.gguf": digest };
  await callOllama(
    url,
    "/api/create",
    JSON.stringify({ model: name, files, template, parameters, stream: false }),
  );
}

/** Posts to Ollama and returns what it answers; throws unless it succeeds. */
export async function callOllama(
  url: string,
  path: string,
  body: RequestInit["body"],
  method = "POST",
): Promise<string> {
  const answer = await fetch(url + path, { method, body: body ?? null });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`Ollama answered ${answer.status} to ${path}: ${text}`);
  return text;
}
