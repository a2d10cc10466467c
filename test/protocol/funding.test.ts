import { expect } from "chai";
import fc from "fast-check";
import { InfernetError } from "../../protocol/errors.ts";
import {
  checkBeforeMargin,
  checkFunded,
  checkTerms,
  earliestDeadline,
  marginSeconds,
  type OpenedJob,
} from "../../protocol/funding.ts";
import { type JobState, jobHashOf } from "../../protocol/job.ts";
import type { Offer } from "../../protocol/offer.ts";
import { exampleOffer } from "../support/examples.ts";
import { holds } from "../support/properties.ts";

const OPENED_AT = 1_800_000_000;
const word = (byte: string) => `0x${byte.repeat(32)}` as const;
const address = (byte: string) => `0x${byte.repeat(20)}` as const;
const offer: Offer = exampleOffer({
  node: address("0a"),
  issuedAt: OPENED_AT - 60,
  expires: OPENED_AT + 3600,
});

function openedJob(changes: Partial<OpenedJob> = {}, job: Partial<OpenedJob["job"]> = {}): OpenedJob {
  const { node } = offer;
  const fields = {
    requester: address("01"),
    signer: address("02"),
    node,
    payee: address("03"),
    jobHash: word("04"),
  };
  return {
    jobId: word("05"),
    job: { ...fields, deadline: OPENED_AT + 3600, ...job },
    deposit: 1_000_000n,
    openedAt: OPENED_AT,
    registeredPayee: address("03"),
    ...changes,
  };
}

const open: JobState = { deposit: 1_000_000n, claimed: 0n, status: "open" };

function refusal(opened: OpenedJob, state: JobState = open, now = OPENED_AT + 1): string {
  try {
    checkFunded(opened, state, offer, now);
    return "funded";
  } catch (error) {
    if (!(error instanceof InfernetError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

describe("funding", () => {
  it("counts a job as funded that pays this node under a valid offer", () => {
    expect(refusal(openedJob())).to.equal("funded");
  });

  it("refuses another node's job, a payee that the Registry did not name, and a deposit under the minimum", () => {
    expect(refusal(openedJob({}, { node: address("0b") }))).to.contain(
      "job-not-funded: the job names another node",
    );
    expect(refusal(openedJob({ registeredPayee: address("0c") }))).to.contain("payee");
    expect(refusal(openedJob(), { ...open, deposit: offer.minDeposit - 1n })).to.contain("minimum");
  });

  it("refuses what the confirmed block does not show as open", () => {
    expect(refusal(openedJob(), { ...open, status: "none" })).to.contain("not open at the confirmed block");
    expect(refusal(openedJob(), { ...open, status: "closed" })).to.contain("job-closed");
  });

  it("takes the offer's validity from the opening block, not from now", () => {
    expect(refusal(openedJob({ openedAt: offer.issuedAt - 1 }))).to.contain("offer was not valid");
    expect(
      refusal(openedJob({ openedAt: offer.expires + 1 }, { deadline: offer.expires + 3600 })),
    ).to.contain("valid");
  });

  it("refuses a deadline that is too near or too far", () => {
    const earliest = earliestDeadline(offer, OPENED_AT);
    expect(refusal(openedJob({}, { deadline: earliest }))).to.equal("funded");
    expect(refusal(openedJob({}, { deadline: earliest - 1 }))).to.contain("too near");
    expect(refusal(openedJob({}, { deadline: OPENED_AT + 30 * 86_400 + 1 }))).to.contain("too far");
  });

  it("stops serving at the margin before the deadline", () => {
    const opened = openedJob();
    const last = opened.job.deadline - marginSeconds(OPENED_AT, opened.job.deadline);
    expect(() => checkBeforeMargin(opened, last)).to.not.throw();
    expect(() => checkBeforeMargin(opened, last + 1)).to.throw("too near its deadline");
    expect(refusal(opened, open, last + 1)).to.contain("job-expired");
  });

  it("keeps ten minutes of margin, or a tenth of a longer life", () => {
    expect(marginSeconds(0, 3600)).to.equal(600);
    expect(marginSeconds(0, 100_000)).to.equal(10_000);
  });

  it("leaves room for the longest request before the margin of the earliest deadline", () => {
    holds(
      fc.property(fc.integer({ min: 1, max: 86_400 }), (longestRequestSeconds) => {
        const deadline = earliestDeadline({ longestRequestSeconds }, OPENED_AT);
        const servable = deadline - marginSeconds(OPENED_AT, deadline) - OPENED_AT;
        expect(servable).to.be.at.least(longestRequestSeconds);
      }),
    );
  });

  it("opens the job's hash with its salt, offer and request alone", () => {
    const terms = { salt: word("01"), offerHash: word("02"), requestHash: word("03") };
    const job = { jobHash: jobHashOf(terms) };
    expect(() => checkTerms(job, terms)).to.not.throw();
    for (const wrong of ["salt", "offerHash", "requestHash"] as const) {
      expect(() => checkTerms(job, { ...terms, [wrong]: word("ff") }), wrong).to.throw(
        InfernetError,
        "do not open",
      );
    }
  });
});
