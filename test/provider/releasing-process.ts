// Owns the process that a test kills: it releases payloads for ever and prints an event's number once it may leave.
import { addFundedJob, newRequest, openLedgers, SINGLE_TERMS } from "./ledger-fixture.ts";

const ledgers = openLedgers(process.argv[2]!);
const jobId = addFundedJob(ledgers, SINGLE_TERMS, 10_000n);
const request = newRequest(jobId);
await ledgers.ledger.startRequest(request);
for (let tokens = 1; ; tokens++) {
  await ledgers.ledger.release(request.requestId, [`token ${tokens}`], {
    promptTokens: 0,
    completionTokens: tokens,
  });
  process.stdout.write(`${tokens}\n`);
}
