// Owns where passphrases come from: environment, file or prompt; never a flag, which other users of a machine can read.
import { InfernetError } from "../protocol/errors.ts";
import type { Prompter } from "./prompting.ts";

const VARIABLES = "INFERNET_PASSPHRASE or INFERNET_PASSPHRASE_FILE";
/** The shortest that a person may choose; what programs give only has to be there. */
const SHORTEST_CHOSEN = 8;

export type PassphraseSources = { env: NodeJS.ProcessEnv; prompter: Prompter };

/** The passphrase of an existing key file. `what` names the key in the question. */
export async function readPassphrase(sources: PassphraseSources, what: string): Promise<string> {
  const given = await givenPassphrase(sources.env);
  if (given !== undefined) return given;
  return sources.prompter.secret({ message: `Passphrase of ${what}`, missing: VARIABLES });
}

/** The passphrase that a new key file is to have; a person types it twice. */
export async function choosePassphrase(sources: PassphraseSources, what: string): Promise<string> {
  const given = await givenPassphrase(sources.env);
  if (given !== undefined) return given;
  const { prompter } = sources;
  const chosen = await prompter.secret({
    message: `Choose a passphrase for ${what} (at least ${SHORTEST_CHOSEN} characters)`,
    missing: VARIABLES,
    validate: (value) => value.length >= SHORTEST_CHOSEN || `at least ${SHORTEST_CHOSEN} characters`,
  });
  await prompter.secret({
    message: "The same passphrase again",
    missing: VARIABLES,
    validate: (value) => value === chosen || "that is not the same passphrase",
  });
  return chosen;
}

async function givenPassphrase(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const { readPassphraseSource } = await import("../runtime/config.ts");
  const given = readPassphraseSource(env);
  if (given !== "") return given;
  throw new InfernetError("bad-config", `the passphrase in ${env.INFERNET_PASSPHRASE_FILE} is empty`, {
    hint: `Set ${VARIABLES}.`,
  });
}
