// Owns what each error code means and what to do about it, in words for docs/errors.md; programs need only the table.
import type { ErrorCode } from "./errors.ts";

export type ErrorMeaning = { meaning: string; remedy: string };

/** In the order of the table; the type holds the two complete. */
export const ERROR_MEANINGS: Record<ErrorCode, ErrorMeaning> = {
  "bad-request": {
    meaning: "The command line or the request is malformed, or asks for what the receiver does not do.",
    remedy: "The message names the flag or field: correct it.",
  },
  unsupported: {
    meaning:
      "The request needs something that the model does not do on this node: tools, JSON, images and the like.",
    remedy: "The message names it; see `infernet models --features` for models that do it, or leave it out.",
  },
  "bad-receipt": {
    meaning:
      "The receipt is malformed, of another job, not signed by the job's signer, or above the job's deposit.",
    remedy: "Sign for this job with its session key. A receipt lower than an earlier one changes nothing.",
  },
  "body-too-large": {
    meaning: "The request's body or the prompt is longer than anything that a model reads.",
    remedy: "Send less at once.",
  },
  "wrong-content-type": {
    meaning: "The body is not announced as JSON, or it is compressed.",
    remedy: "Send `content-type: application/json` and no `content-encoding`.",
  },
  "not-found": {
    meaning: "The node has no such route or request, or keeps the answer no more.",
    remedy: "Answers are kept for an hour; the delivery for as long as the ledger.",
  },
  unauthorized: {
    meaning: "The gateway has a token, and the request does not carry it.",
    remedy: "Send `Authorization: Bearer TOKEN`, as OpenAI's clients do with their API key.",
  },
  forbidden: {
    meaning: "The request comes from a web page, or by a name that is not this machine's own.",
    remedy: "Use http://127.0.0.1 and the gateway's port; let a page in with `--allow-origin`.",
  },
  "bad-config": {
    meaning: "A setting, a file of the home folder or an answer that is needed is missing, wrong or taken.",
    remedy: "The message names the setting and where it came from; `infernet doctor` looks at all of them.",
  },
  "payment-required": {
    meaning: "The request names no job that pays for it.",
    remedy: "Open a job and send its headers; `infernet job submit` does both.",
  },
  "receipt-too-small": {
    meaning: "The receipt does not cover what was charged and what the next tokens may cost.",
    remedy: "Send one of at least `need`, in base units of USDC.",
  },
  "receipt-timeout": {
    meaning: "The next receipt did not come in the time that the offer allows, and the answer was ended.",
    remedy: "What was delivered is charged, nothing more. Ask again; sign as the answer arrives.",
  },
  "insufficient-funds": {
    meaning: "The account has too little USDC, credit, or coin of the chain for gas.",
    remedy: "Send what the hint names to the address that it names, on that chain.",
  },
  "over-budget": {
    meaning: "Going on would cost more than the job, the day or the deposit allows.",
    remedy: "Raise the limit that the hint names, or ask for fewer tokens.",
  },
  "job-not-found": {
    meaning: "There is no such job here, or the caller does not have its salt: the two look the same.",
    remedy: "See `infernet job list`; `infernet job recover` finds jobs of a lost ledger on the chain.",
  },
  "job-unconfirmed": {
    meaning:
      "The chain does not show yet what is asked for: an opening, a settlement, a deadline that is past.",
    remedy: "Wait; `retry-after` or the message says how long.",
  },
  "job-not-funded": {
    meaning:
      "The job does not pay this node: another node, payee or chain, too small a deposit, or unknown terms.",
    remedy: "Its deposit comes back: `infernet job refund`, from the deadline on.",
  },
  "job-closed": {
    meaning: "The job is settled or refunded, or serves no more requests.",
    remedy: "Open a new job. What was not used of this one is credit again.",
  },
  "job-expired": {
    meaning: "The deadline is past, or too near for the request to be served and settled.",
    remedy: "Open a new job, with a later deadline if the request is long.",
  },
  "request-mismatch": {
    meaning: "The request's bytes are not those that the job or the idempotency key stands for.",
    remedy: "Send exactly the same bytes again, or open a new job.",
  },
  "request-in-progress": {
    meaning: "A request of this job still runs.",
    remedy: "Wait for its end, or send the same request again to listen to it.",
  },
  "no-node": {
    meaning:
      "No active node lists the model, or every one that does was refused for the reason that is told.",
    remedy: "See `infernet models` and `infernet nodes`.",
  },
  "offer-invalid": {
    meaning:
      "The node's offer is forged, expired, for another chain, or dearer than its entry in the Registry.",
    remedy: "Nothing was paid. Choose another node.",
  },
  "model-not-offered": {
    meaning: "The node does not sell this model now.",
    remedy: "The hint names those that it sells.",
  },
  "node-unreachable": {
    meaning: "The node does not answer, or the connection broke.",
    remedy: "Submit the same again: it goes on where it stopped, at no new charge. Else choose another node.",
  },
  "node-key-mismatch": {
    meaning: "The server at the node's endpoint has another TLS key than the node signed for.",
    remedy: "No request byte was sent to it. Do not trust that connection; tell the node's operator.",
  },
  "node-misbehaved": {
    meaning: "The node broke the protocol: a false delivery, a gap in the answer, an answer that is none.",
    remedy: "Nothing more is signed for the job and the evidence is kept. Choose another node.",
  },
  "node-busy": {
    meaning: "The node runs as many requests as it can, or is stopping.",
    remedy: "Try again after `retry-after`, or choose another node.",
  },
  "relay-refused": {
    meaning: "The node does not broadcast this for somebody without gas.",
    remedy: "The message says why. Send the transaction from the wallet, or ask another node.",
  },
  "rate-limited": {
    meaning: "Too many requests of this kind came in a short time.",
    remedy: "Try again after `retry-after`.",
  },
  "upstream-unreachable": {
    meaning: "What runs the model does not answer the node.",
    remedy: "Sellers: start it, or name it with `--upstream-url`. Buyers: choose another node.",
  },
  "upstream-failed": {
    meaning: "What runs the model answered with an error, before or in the middle of an answer.",
    remedy: "Before the first token nothing is charged, after it what was delivered. Ask again.",
  },
  "upstream-timeout": {
    meaning: "The model took longer than the offer allows.",
    remedy: "Ask for fewer tokens, or choose another node.",
  },
  "model-not-found": {
    meaning: "What runs the models does not have this one, or there is no such file.",
    remedy: "The hint names those that it has.",
  },
  "chain-unreachable": {
    meaning: "The chain's RPC does not answer, or answers nonsense.",
    remedy: "Check `--rpc-url`; `infernet doctor` says what answers.",
  },
  "wrong-chain": {
    meaning: "The RPC is of another chain than the settings name.",
    remedy: "Correct `--rpc-url` or `--chain-id`.",
  },
  "no-deployment": {
    meaning: "No address of the contracts is known for this chain, or there is no contract at it.",
    remedy: "Name `--registry` and `--escrow`, or `--deployment`.",
  },
  "transaction-failed": {
    meaning: "The chain refused a transaction; the message names the contract's own error.",
    remedy: "Nothing changed on the chain. The contract's error says what to correct.",
  },
  "not-registered": {
    meaning: "The Registry does not list this node.",
    remedy: "List it: `infernet register`.",
  },
  "store-locked": {
    meaning: "Another process uses this ledger.",
    remedy: "Stop the other worker of this home folder, or choose another folder with `--home`.",
  },
  "store-unusable": {
    meaning: "The ledger cannot be used: disk full, damaged, read-only, of another version.",
    remedy: "The message says which. A damaged one is replaced by the last backup: `infernet restore`.",
  },
  "wallet-missing": {
    meaning: "There is no key file for what should be signed.",
    remedy: "Make one: `infernet wallet create` or `infernet register`; or restore a backup.",
  },
  "wrong-passphrase": {
    meaning: "The passphrase does not open the key file.",
    remedy: "Type it again, or correct `INFERNET_PASSPHRASE` or the file of `INFERNET_PASSPHRASE_FILE`.",
  },
  "gateway-unreachable": {
    meaning: "No gateway answers where the command looked for it.",
    remedy: "Start one with `infernet gateway`, or name its place with `--host` and `--port`.",
  },
  "port-in-use": {
    meaning: "Another program listens on the port.",
    remedy: "Stop it, or choose another with `--port`.",
  },
  "docker-unavailable": {
    meaning: "No Docker engine is found, none answers, or this user may not use it.",
    remedy: "Install or start Docker as the hint says, or name an engine of this machine in `DOCKER_HOST`.",
  },
  "docker-failed": {
    meaning: "The Docker engine refuses, or the image or the container of Ollama cannot be had.",
    remedy:
      "The message is the engine's own. Without a network, `docker load` brings the image; see docs/docker.md.",
  },
  interrupted: {
    meaning: "Ctrl-C, SIGTERM or a stopping node ended it before it was done.",
    remedy: "What was delivered is charged, the rest comes back. Submit the same again.",
  },
};
