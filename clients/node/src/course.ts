/** The course of a call through endpoints and tries: which is next, whether an error allows another try, what the caller is told. */

import type { Core, KnownOptions } from "./core.js";
import { ContactLost, DeadlineExceeded, NodeError, Unreachable, type QuorumorError } from "./errors.js";
import type { CallOptions, RetryPolicy } from "./options.js";

const REDIRECTS_MAX = 3;

/**
 * What a call does, as far as retries care: it may change something; the same, with a number in a session; it may be carried out
 * twice without harm, and needs the leader; it changes nothing; it asks about one node, now.
 */
export type Kind = "write" | "numbered" | "harmless" | "read" | "describe";

/** Keeps retries from multiplying an outage: each costs a token, each answered call gives a tenth of one back. */
export class Budget {
  #tenths = 1000;

  /** Whether one more retry is within the budget; if so it is spent. */
  spend(): boolean {
    if (this.#tenths < 10) return false;
    this.#tenths -= 10;
    return true;
  }

  /** A call was answered. */
  earn(): void {
    this.#tenths = Math.min(this.#tenths + 1, 1000);
  }
}

/** Pauses without end: each doubles, with jitter. */
export function* backoff(retries: RetryPolicy): Generator<number, never> {
  for (let ms = retries.delayMinMs; ; ms = Math.min(ms * 2, retries.delayMaxMs)) yield ms * (1 + Math.random());
}

/** Whether it is sent again though it may have been carried out. */
function isRepeatedWrite(kind: Kind): boolean {
  return kind === "numbered" || kind === "harmless";
}

/** Whether the same call may be tried again: a write only if it was certainly not applied, is numbered, or harms nobody twice. */
export function mayRetry(error: QuorumorError, kind: Kind): boolean {
  if (kind === "describe" || (kind === "write" && error.outcomeUnknown)) return false;
  if (error instanceof NodeError) {
    const settles = isRepeatedWrite(kind) && error.outcomeUnknown;
    return error.reason !== "FUTURE_REVISION" && (error.retryAfterMs !== undefined || settles);
  }
  return error instanceof Unreachable || error instanceof ContactLost || error instanceof DeadlineExceeded;
}

/** Whether a node said who leads, and that it took nothing. */
function isRedirect(error: QuorumorError): boolean {
  return error instanceof NodeError && error.reason === "NOT_LEADER" && error.leader !== undefined && !error.outcomeUnknown;
}

/** Whether a call is best taken to the leader. */
export function wantsLeader(core: Core, kind: Kind, options: CallOptions): boolean {
  const linearizable = options.level === undefined || options.level === "linearizable";
  return core.mode(options) !== "eventual" && kind !== "describe" && (kind !== "read" || linearizable);
}

/** The way of one call through endpoints and tries. */
export class Course {
  readonly #pinned?: number;
  readonly #wantLeader: boolean;
  readonly #backoff: Generator<number, never>;
  #tried: number[] = [];
  #triesLeft: number;
  #redirectsLeft = REDIRECTS_MAX;
  /** The last error that a node gave, which tells more than that another one can't be reached. */
  #told?: QuorumorError;
  /** The first error of something that is sent again though it may have been carried out: from here on only an answer is certain. */
  #doubt?: QuorumorError;

  constructor(
    readonly core: Core,
    readonly kind: Kind,
    readonly options: KnownOptions,
    readonly until: number,
  ) {
    if (options.endpoint !== undefined) this.#pinned = core.endpoints.place(options.endpoint);
    this.#wantLeader = wantsLeader(core, kind, options);
    this.#backoff = backoff(core.retries);
    this.#triesLeft = core.retries.attemptsMax - 1;
  }

  /** The endpoint to try now. When all were tried it is the first one's turn again. */
  next(): number {
    if (this.#untried() === undefined) this.#tried = [];
    const place = this.#untried() ?? 0;
    this.#tried.push(place);
    return place;
  }

  /** What may be tried twice leaves half of the time to another node: one that hangs must not take it all. */
  tryTimeoutMs(): number {
    const left = Math.max(this.until - performance.now(), 1);
    const repeatable = this.kind !== "write" && this.kind !== "describe" && this.#triesLeft > 0;
    return repeatable && this.#untried() !== undefined ? left / 2 : left;
  }

  /**
   * Learns from an error of a request that carried this token: milliseconds until the next try. Throws what the caller is told if
   * there is none.
   */
  after(place: number, error: QuorumorError, token: Uint8Array = new Uint8Array()): number {
    if (!isRedirect(error) && error.reason !== "OVERLOADED") this.core.endpoints.leave(place);
    this.core.learnFromError(place, error, this.options, token);
    if (error instanceof NodeError) this.#told = error;
    if (isRepeatedWrite(this.kind) && error.outcomeUnknown) this.#doubt ??= error;
    // What became of a numbered write, its next answer tells: only the deadline ends its tries.
    const settles = this.kind === "numbered" && this.#doubt !== undefined;
    const elsewhere = this.#untried() !== undefined;
    // A damaged node among others ends nothing.
    const moves = elsewhere && error.reason === "DAMAGED" && !error.outcomeUnknown && this.kind !== "describe";
    if (this.#triesLeft <= 0 || !(mayRetry(error, this.kind) || moves)) throw this.#final(error);
    if (isRedirect(error) && elsewhere && this.#redirectsLeft > 0) {
      this.#redirectsLeft -= 1;
      return 0;
    }
    if (!settles) this.#triesLeft -= 1;
    // What a node asks for concerns that node: it holds once there is nobody else to ask.
    const ms = Math.max(this.#backoff.next().value, elsewhere ? 0 : (error.retryAfterMs ?? 0));
    const tooLate = performance.now() + ms >= this.until;
    if (tooLate || !(settles || this.core.budget.spend())) throw this.#final(error);
    return ms;
  }

  #untried(): number | undefined {
    if (this.#pinned !== undefined) return this.#tried.includes(this.#pinned) ? undefined : this.#pinned;
    return this.core.endpoints.next(this.#wantLeader, this.#tried);
  }

  #final(error: QuorumorError): QuorumorError {
    if (this.#doubt !== undefined) {
      if (error instanceof NodeError) error.certainty = "unknown";
      return error.outcomeUnknown ? error : this.#doubt;
    }
    const lost = error instanceof ContactLost || error instanceof DeadlineExceeded;
    const silent = error instanceof Unreachable || (this.kind === "read" && lost);
    return (silent ? this.#told : undefined) ?? error;
  }
}
