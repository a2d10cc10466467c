// Owns the sessions that this process has in hand: which one has room, when the next is opened, and when one is closed.
import type { Address, Hex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { Choice, ChooseDeps } from "../choose.ts";
import type { GasChoice } from "../gas.ts";
import type { LedgerJob } from "../ledger-rows.ts";
import type { Settlement } from "../settlement.ts";
import { Session } from "./session.ts";
import type { SessionDeps, Size } from "./session-answer.ts";
import { openSession, type SessionOpeningDeps, type SessionPlan } from "./session-opening.ts";
import { reportSession } from "./session-report.ts";
import type { SessionEvent, SessionReport } from "./session-request.ts";

export type SessionsDeps = SessionDeps &
  SessionOpeningDeps &
  Pick<ChooseDeps, "allowPrivate" | "verdictOn"> & {
    settlement: Settlement;
    /** Begins to bring to their end what earlier runs, or closings that failed, left behind. */
    tendLeft(): void;
  };

/** What a request needs of a session: its node and offer, its room, and the most that it may cost, in base units. */
export type Need = { choice: Choice; size: Size; most: bigint; gas?: GasChoice | undefined };

/** A session runs low when less than one part in so many of its deposit is left. */
const LOW_PARTS = 4n;
/** Or when it can begin requests for no longer than this. */
const LOW_SECONDS = 300;
/** How long nothing is opened ahead after that failed. */
const RETRY_MS = 30_000;
/** Between looks at what was left behind. */
const TEND_MS = 300_000;
/** Sessions opened for one request, which others may fill before it gets there. */
const MOST_OPENINGS = 5;

export class SessionPool {
  readonly #deps: SessionsDeps;
  readonly #stopped: AbortSignal;
  /** The oldest first. */
  readonly #sessions = new Map<Hex, Session>();
  readonly #openings = new Map<Address, Promise<Session | undefined>>();
  readonly #retryAt = new Map<Address, number>();
  readonly #takeOvers = new Map<Hex, Promise<Session>>();
  #tendAt = 0;
  readonly #timers = new Map<Hex, NodeJS.Timeout>();
  readonly #closings = new Map<Hex, Promise<void>>();
  /** Work that nobody waits for, but a stop. */
  readonly #background = new Set<Promise<unknown>>();
  readonly #listeners = new Set<(event: SessionEvent) => void>();

  constructor(deps: SessionsDeps, stopped: AbortSignal) {
    this.#deps = deps;
    this.#stopped = stopped;
  }

  find(jobId: Hex): Session | undefined {
    return this.#sessions.get(jobId);
  }

  /**
   * Runs `use` on a session with room: one in hand, one that another process left, or a new one. `use` must take its
   * room before it returns, for the next request may come at once.
   */
  async withRoom<Result>(need: Need, use: (session: Session) => Result): Promise<Result> {
    this.#tendNowAndThen();
    for (let openings = 0; openings < MOST_OPENINGS; ) {
      const session = this.#pick(need);
      if (session) {
        clearTimeout(this.#timers.get(session.jobId));
        const result = use(session);
        this.#openAhead(session, need);
        return result;
      }
      const underWay = this.#openings.get(need.choice.node);
      // Of many that wait for one opening, those that find no room after it open the next.
      if (underWay) await underWay;
      else {
        openings += 1;
        await this.#acquire(need);
      }
    }
    throw new InfernetError("node-busy", "other requests took the room of every session that was opened", {
      hint: "Send the request again, or allow a larger deposit: infernet config set requester.sessionUsdc AMOUNT.",
    });
  }

  /** Opens a session and keeps it in hand. */
  async open(plan: Omit<SessionPlan, "onPlanned" | "signal">): Promise<Session> {
    const { chain } = this.#deps;
    const onPlanned = ({ jobId }: LedgerJob) => this.#tell("opening", jobId);
    const job = await openSession(this.#deps, { ...plan, signal: this.#stopped, onPlanned });
    const session = this.#add(job, (await chain.getBlock("latest")).number);
    this.#tell("opened", job.jobId);
    this.release(session);
    return session;
  }

  /**
   * Takes a session in hand that a process which died or has ended left open. Throws `request-in-progress` while another
   * process has it, `job-closed` when it is over.
   */
  takeOver(jobId: Hex): Promise<Session> {
    const held = this.#sessions.get(jobId);
    if (held) return Promise.resolve(held);
    // All requests that a crash cut off may come back at once.
    const underWay =
      this.#takeOvers.get(jobId) ?? this.#takeOver(jobId).finally(() => this.#takeOvers.delete(jobId));
    this.#takeOvers.set(jobId, underWay);
    return underWay;
  }

  async #takeOver(jobId: Hex): Promise<Session> {
    const { ledger, work, settlement, clock, chain } = this.#deps;
    if (!work.take(jobId)) throw inOtherHands(jobId);
    try {
      ledger.requests.loseRunning(jobId, clock.nowSeconds());
      const job = await settlement.sync(jobId);
      if (job.phase !== "open" && job.phase !== "streaming")
        throw new InfernetError("job-closed", `the session ${jobId} is not open`);
      return this.#add(job, (await chain.getBlock("latest")).number);
    } catch (error) {
      work.leave(jobId);
      throw error;
    }
  }

  /** A request left the session: it is closed when it is of no more use, else once it was idle for long enough. */
  release(session: Session, reserve = 0n): void {
    const { settings } = this.#deps;
    const { jobId } = session;
    if (session.active > 0 || this.#stopped.aborted || !this.#sessions.has(jobId)) return;
    const isSpent = session.isRetired || session.secondsLeft() <= 0 || session.room() < reserve;
    const close = () => {
      if (session.active === 0) this.#inBackground(this.closeQuietly(session));
    };
    clearTimeout(this.#timers.get(jobId));
    if (isSpent) close();
    else this.#timers.set(jobId, setTimeout(close, settings.idleSeconds * 1000).unref());
  }

  /** Has the node close it, once its requests have ended. Throws what its node says against it: it is left as it is. */
  close(session: Session): Promise<void> {
    const { jobId } = session;
    const closing =
      this.#closings.get(jobId) ?? this.#close(session).finally(() => this.#closings.delete(jobId));
    this.#closings.set(jobId, closing);
    return closing;
  }

  /** The same for who cannot be told: what is not closed now is left to be tended. */
  async closeQuietly(session: Session): Promise<void> {
    const { jobId } = session;
    try {
      await this.close(session);
    } catch (error) {
      if (!(error instanceof InfernetError)) throw error;
      const { code, message } = error;
      this.#deps.log.warn({ job: jobId, code }, `the node did not close the session: ${message}`);
    }
  }

  inHand(): Session[] {
    return [...this.#sessions.values()];
  }

  /** Waits for what is under way, and lets go of all sessions. */
  async stop(): Promise<void> {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    await Promise.allSettled([...this.#background, ...this.#openings.values()]);
    await Promise.all(this.inHand().map((session) => this.#leave(session)));
  }

  subscribe(listener: (event: SessionEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  report(jobId: Hex): SessionReport {
    const { ledger } = this.#deps;
    return reportSession(ledger, ledger.findJob(jobId)!);
  }

  #pick({ choice, size, most }: Need): Session | undefined {
    return this.inHand().find(
      (session) =>
        session.offer.node === choice.node &&
        session.offers(choice.model, choice.endpoint) &&
        session.fits(size, most),
    );
  }

  #tendNowAndThen(): void {
    if (performance.now() < this.#tendAt) return;
    this.#tendAt = performance.now() + TEND_MS;
    this.#deps.tendLeft();
  }

  /** One opening for all that wait for it; it goes on when one of them goes away. */
  #acquire(need: Need): Promise<Session | undefined> {
    const { node } = need.choice;
    const acquire = async () =>
      (await this.#adopt(need)) ??
      (await this.open({ choice: need.choice, reserve: need.size.reserve, gas: need.gas }));
    const opening = acquire().finally(() => this.#openings.delete(node));
    this.#openings.set(node, opening);
    return opening;
  }

  async #adopt({ choice, size, most }: Need): Promise<Session | undefined> {
    for (const { jobId, evidence } of this.#deps.ledger.openSessions(choice.node)) {
      if (this.#sessions.has(jobId) || evidence !== null) continue;
      const session = await this.takeOver(jobId).catch((error: unknown) => {
        if (!(error instanceof InfernetError)) throw error;
      });
      if (!session) continue;
      if (session.offers(choice.model, choice.endpoint) && session.fits(size, most)) return session;
      this.release(session);
    }
  }

  /** Opens the next session in the background before this one runs dry or nears its deadline's margin. */
  #openAhead(session: Session, { choice, size, gas }: Need): void {
    const { node } = choice;
    const isLow = (one: Session) =>
      one.isRetired ||
      one.secondsLeft() < LOW_SECONDS ||
      one.left() * LOW_PARTS < one.deposit ||
      (one.active > 1 && one.room() * LOW_PARTS < one.deposit);
    const isAnotherReady = this.inHand().some(
      (one) => one.offer.node === node && one.offers(choice.model, choice.endpoint) && !isLow(one),
    );
    const isTooSoon = performance.now() < (this.#retryAt.get(node) ?? 0);
    if (!isLow(session) || isAnotherReady || this.#openings.has(node) || isTooSoon) return;
    const opening = this.open({ choice, reserve: size.reserve, gas }).finally(() =>
      this.#openings.delete(node),
    );
    this.#openings.set(node, opening);
    const failed = (error: unknown) => {
      this.#retryAt.set(node, performance.now() + RETRY_MS);
      throw error;
    };
    this.#inBackground(opening.catch(failed));
  }

  #add(job: LedgerJob, openBlock: number): Session {
    const session = new Session(this.#deps, job, openBlock, (broken) => {
      this.#tell("broken", broken.jobId);
      this.#inBackground(this.closeQuietly(broken));
    });
    this.#sessions.set(job.jobId, session);
    return session;
  }

  async #close(session: Session): Promise<void> {
    const { settlement, log } = this.#deps;
    const { jobId } = session;
    session.isRetired = true;
    clearTimeout(this.#timers.get(jobId));
    await session.idle();
    this.#tell("closing", jobId);
    try {
      await session.close();
    } finally {
      await this.#leave(session);
    }
    await settlement.sync(jobId).catch((error: unknown) => {
      log.warn({ job: jobId, error: String(error) }, "the chain does not tell of the session's end");
    });
    this.#tell("closed", jobId);
  }

  async #leave(session: Session): Promise<void> {
    await session.leave();
    this.#forget(session.jobId);
  }

  #forget(jobId: Hex): void {
    clearTimeout(this.#timers.get(jobId));
    this.#timers.delete(jobId);
    if (this.#sessions.delete(jobId)) this.#deps.work.leave(jobId);
  }

  #inBackground(work: Promise<unknown>): void {
    const watched: Promise<unknown> = work
      .catch((error: unknown) => this.#deps.log.warn({ error: String(error) }, "work on a session failed"))
      .finally(() => this.#background.delete(watched));
    this.#background.add(watched);
  }

  #tell(type: SessionEvent["type"], jobId: Hex): void {
    const session = this.report(jobId);
    for (const listener of this.#listeners) listener({ type, session });
  }
}

function inOtherHands(jobId: Hex): InfernetError {
  return new InfernetError("request-in-progress", `another process has the session ${jobId} in hand`, {
    hint: "Close it there, or end that process.",
  });
}
