// Owns the hash chain over what was delivered: T0 = requestId, Tn = keccak256(Tn-1 || keccak256(payload n)).
import { concatBytes, fromHex, type Hex, keccak256, utf8 } from "./bytes.ts";

/** The transcript after one more payload: the UTF-8 text after "data: " of the next event, or a whole body. */
export function extendTranscript(transcript: Hex, payload: string): Hex {
  return keccak256(concatBytes(fromHex(transcript), fromHex(keccak256(utf8(payload)))));
}

/** The transcript of a request's first payloads, in order. */
export function transcriptOf(requestId: Hex, payloads: readonly string[]): Hex {
  return payloads.reduce(extendTranscript, requestId);
}
