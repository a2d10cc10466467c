// Owns the form of every command's --json document, field by field, as docs/cli.md tells it: nothing more, nothing less.
import { z } from "zod";
import { gatewayStatusSchema } from "../../requester/gateway/status.ts";

const usdc = z.string().regex(/^\d+\.\d{6}$/);
const exactUsdc = z.string().regex(/^\d+\.\d{12}$/);
const price = z.string().regex(/^\d+\.\d{2,12}$/);
const integerText = z.string().regex(/^\d+$/);
const count = z.int().nonnegative();
const hex = (bytes: number) => z.string().regex(new RegExp(`^0x[0-9a-f]{${2 * bytes}}$`));
const address = hex(20);
const word = hex(32);
const time = z.iso.datetime();
const text = z.string();

const keyFile = z.strictObject({ address, path: text });
const setting = z.strictObject({
  key: text,
  value: z.unknown(),
  source: z.enum(["flag", "environment", "file", "default", "unset"]),
  origin: text.nullable(),
});
const transactions = z.array(
  z.strictObject({
    label: text,
    tx: word,
    block: count.nullable(),
    gasUsed: count.nullable(),
    feeWei: integerText.nullable(),
  }),
);
const node = {
  ...{ node: address, payee: address, endpoint: text, active: z.boolean() },
  models: z.array(
    z.strictObject({ name: text, digest: word, inputPriceUsdc: price, outputPriceUsdc: price }),
  ),
};
const features = z.array(text).nullable();
const offeringNode = {
  ...node,
  models: z.array(
    z.strictObject({ name: text, digest: word, inputPriceUsdc: price, outputPriceUsdc: price, features }),
  ),
};
const delivery = z.looseObject({
  jobId: word,
  requestId: word,
  promptTokens: count,
  completionTokens: count,
});
const job = z.strictObject({
  jobId: word,
  phase: z.enum(["planned", "opening", "open", "streaming", "ended", "closed", "refunded", "dropped"]),
  ...{ kind: z.enum(["single", "session"]).nullable(), node: address, model: text.nullable() },
  ...{ depositUsdc: usdc, signedUsdc: usdc, chargeUsdc: usdc.nullable(), returnedUsdc: usdc.nullable() },
  ...{ deadline: time, createdAt: time, openTx: word.nullable(), delivery: delivery.nullable() },
  evidence: z.unknown(),
});
const session = z.strictObject({
  ...{ jobId: word, state: z.enum(["opening", "open", "closing", "closed"]), node: address, model: text },
  ...{ depositUsdc: usdc, signedUsdc: usdc, chargedUsdc: usdc, requests: count, active: count },
  ...{ openedAt: time.nullable(), usedAt: time.nullable(), deadline: time },
  ...{ lockedUsdc: usdc, returnsAt: time.nullable(), evidence: z.unknown() },
});
const served = { requests: count, promptTokens: count, completionTokens: count, costUsdc: z.string() };
const files = z.array(z.strictObject({ name: text, bytes: count, sha256: z.string().length(64) }));

const spent = {
  ...{ requests: count, promptTokens: count, completionTokens: count },
  ...{ costUsdc: exactUsdc, pendingUsdc: exactUsdc },
};

export const JSON_FORMS: Readonly<Record<string, z.ZodType>> = {
  completion: z.strictObject({ shell: text, script: text }),
  "config list": z.strictObject({ path: text, settings: z.array(setting) }),
  "config get": setting,
  "config set": z.strictObject({ key: text, value: z.unknown(), path: text }),
  "config unset": z.strictObject({ key: text, removed: z.boolean(), path: text }),
  "config path": z.strictObject({ path: text }),
  "worker stop": z.strictObject({
    ...{ stopped: z.boolean(), pid: count.nullable() },
    ...{ container: text.nullable(), containerStopped: z.boolean() },
  }),
  "wallet create": keyFile,
  "wallet import": keyFile,
  "wallet address": keyFile,
  "node create": keyFile,
  "wallet export": z.strictObject({ address, keystore: z.unknown() }),
  "wallet balance": z.strictObject({
    ...{ address, chainId: count, nativeWei: integerText },
    ...{ walletUsdc: usdc, creditUsdc: usdc, earnedUsdc: usdc },
  }),
  "wallet fund": z.strictObject({
    ...{ address, chainId: count, network: text, asset: z.literal("usdc") },
    ...{ amountUsdc: usdc.nullable(), uri: text, walletUsdc: usdc },
  }),
  "wallet deposit": z.strictObject({
    ...{ owner: address, amountUsdc: usdc, creditUsdc: usdc, node: address.nullable(), transactions },
  }),
  "wallet withdraw": z.strictObject({
    ...{ owner: address, to: address, amountUsdc: usdc, feeUsdc: usdc, creditUsdc: usdc },
    ...{ node: address.nullable(), transactions },
  }),
  nodes: z.strictObject({ nodes: z.array(z.strictObject(offeringNode)) }),
  models: z.strictObject({
    models: z.array(
      z.strictObject({
        ...{ name: text, nodes: count, features },
        cheapest: z.strictObject({ node: address, inputPriceUsdc: price, outputPriceUsdc: price }),
      }),
    ),
  }),
  register: z.strictObject({ ...node, created: z.boolean(), transactions }),
  "node show": z.strictObject(node),
  "node update": z.strictObject({ ...node, transactions }),
  "node retire": z.strictObject({
    ...{ ...node, transactions },
    remaining: z.strictObject({
      openJobs: count,
      settlingJobs: count,
      unsettledUsdc: usdc,
      earnedOnChainUsdc: usdc,
    }),
  }),
  "node earnings": z.strictObject({
    ...{ node: address, chargedUsdc: usdc, unsettledUsdc: usdc, settledUsdc: usdc },
    ...{ earnedOnChainUsdc: usdc, paidOutUsdc: usdc },
    jobs: z.strictObject({ open: count, settling: count, closed: count }),
    days: z.array(z.strictObject({ day: text, ...served, settledUsdc: usdc, paidOutUsdc: usdc })),
    models: z.array(z.strictObject({ model: text, ...served })),
  }),
  "node payout": z.strictObject({ node: address, payee: address, paidOutUsdc: usdc, transactions }),
  doctor: z.strictObject({
    healthy: z.boolean(),
    findings: z.array(
      z.strictObject({
        ...{ check: text, status: z.enum(["ok", "warn", "fail"]), message: text },
        ...{ hint: text.nullable(), code: text.nullable() },
      }),
    ),
  }),
  backup: z.strictObject({ folder: text, createdAt: time, files }),
  restore: z.strictObject({ home: text, createdAt: time, version: text, files, next: z.array(text) }),
  "gateway status": gatewayStatusSchema,
  "session open": session,
  "session list": z.strictObject({
    sessions: z.array(session),
    ...{ lockedUsdc: usdc, returnsAt: time.nullable() },
  }),
  "session close": z.strictObject({ sessions: z.array(session) }),
  "job submit --session": z.strictObject({
    ...{ jobId: word, requestId: word, node: address, model: text },
    ...{ promptTokens: count, completionTokens: count, estimated: z.boolean() },
    ...{ cost: integerText, chargeUsdc: usdc, text, finishReason: text },
    ...{ firstTokenMs: z.number().nonnegative(), tokensPerSecond: z.number().nonnegative() },
  }),
  "job submit": z.strictObject({
    ...{ jobId: word, node: address, model: text, promptTokens: count, completionTokens: count },
    ...{ estimated: z.boolean(), chargeUsdc: usdc, depositUsdc: usdc, signedUsdc: usdc },
    ...{ openTx: word.nullable(), openGas: count.nullable() },
    settled: z.strictObject({ chargeUsdc: usdc, returnedUsdc: usdc }).nullable(),
    ...{ text, finishReason: text, firstTokenMs: z.number().nonnegative() },
  }),
  spending: z.strictObject({
    total: z.strictObject(spent),
    openingFeesUsdc: usdc,
    days: z.array(z.strictObject({ day: z.iso.date(), ...spent })),
    nodes: z.array(z.strictObject({ node: address, ...spent })),
    models: z.array(z.strictObject({ model: text, ...spent })),
    requests: z.array(
      z.strictObject({
        ...{ requestId: word, jobId: word, node: address, model: text, createdAt: time },
        state: z.enum(["running", "lost", "ended", "refused"]),
        ...{ promptTokens: count, completionTokens: count, estimated: z.boolean() },
        ...{ costUsdc: exactUsdc, pendingUsdc: exactUsdc },
      }),
    ),
  }),
  "job status": job,
  "job wait": job,
  "job result": z.strictObject({
    ...{ jobId: word, text: text.nullable(), finishReason: text.nullable(), delivery: delivery.nullable() },
    missing: z.strictObject({ code: text, message: text }).nullable(),
  }),
  "job list": z.strictObject({ jobs: z.array(job) }),
  "job close": z.strictObject({
    ...{ jobId: word, status: z.enum(["open", "settling", "closed"]), deadline: time },
    ...{ depositUsdc: usdc, receiptUsdc: usdc, chargeUsdc: usdc, claimedUsdc: usdc },
  }),
  "job refund": z.strictObject({
    ...{
      refunded: z.boolean(),
      tx: word.nullable(),
      gasUsed: count.nullable(),
      node: address.nullable(),
      job,
    },
  }),
  "job recover": z.strictObject({ found: z.array(job), tended: z.array(job) }),
};
