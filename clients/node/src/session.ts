/** What a client remembers between calls: its token in each mode, and the numbers of its writes. */

import { randomBytes } from "node:crypto";
import type { Receipt } from "./answers.js";
import type { Mode } from "./options.js";
import { merge, sameEpoch } from "./tokens.js";

/** Writes of one session that the cluster keeps answers of. */
export const ANSWERS_MAX = 1024;

const REFUSED_FOR_MS = 60_000;
const NOTHING = new Uint8Array();

/** One session. Calls that run at the same time share it. */
export class Session {
  /** The mode that a request without a mode is served in, as far as answers have told. */
  defaultMode?: Mode;
  readonly #tokens = new Map<Mode, Uint8Array>();
  readonly #name = randomBytes(8).toString("hex");
  #calls = 0;

  /** The token to send with the next request in this mode; empty if nothing was seen yet. */
  token(mode: Mode | undefined): Uint8Array {
    return (mode && this.#tokens.get(mode)) ?? NOTHING;
  }

  /** Replaces the token of a mode; an empty one forgets it. */
  replace(mode: Mode, token: Uint8Array): void {
    this.#tokens.set(mode, token);
  }

  /** Forgets what was seen, in both modes. */
  reset(): void {
    this.#tokens.clear();
  }

  /** Forgets what was seen in the data that this token speaks of, which a node refused for good. What was seen since stays. */
  forget(mode: Mode | undefined, refused: Uint8Array): void {
    if (mode !== undefined && sameEpoch(this.token(mode), refused)) this.#tokens.delete(mode);
  }

  /** Takes in what an answer has shown. Answers come in any order, so the token never goes back. */
  absorb(receipt: Receipt): void {
    if (receipt.token.length > 0) this.#tokens.set(receipt.mode, merge(this.token(receipt.mode), receipt.token));
  }

  /** A name for a request: unique, and the same for all tries of one call. */
  requestId(): string {
    this.#calls += 1;
    return `${this.#name}-${this.#calls}`;
  }
}

/** The number of one write in a session of the cluster. Until it is done with it may be sent again. */
export interface WriteNumber {
  clientId: bigint;
  seq: number;
  ackedThrough: number;
}

/** A session that the cluster keeps for this client (Raft dissertation, 6.3). */
export class Numbers {
  #last = 0;
  readonly #open = new Set<number>();

  constructor(readonly clientId: bigint) {}

  /** The next number; undefined while the oldest write under way is too far behind. */
  take(): WriteNumber | undefined {
    // Numbers are added in order, and a set keeps it.
    const [oldest] = this.#open;
    const ackedThrough = oldest === undefined ? this.#last : oldest - 1;
    if (this.#last + 1 - ackedThrough > ANSWERS_MAX) return undefined;
    this.#last += 1;
    this.#open.add(this.#last);
    return { clientId: this.clientId, seq: this.#last, ackedThrough };
  }

  /** A number will never be sent again. */
  done(number: WriteNumber): void {
    this.#open.delete(number.seq);
  }
}

/** Which session writes are numbered in, if any. */
export class Numbering {
  /** The session, or its opening; writes that come at the same time share one. */
  current?: Promise<Numbers | undefined>;
  #refusedUntil = 0;

  /** Whether there are no sessions to be had, for now. */
  get refused(): boolean {
    return performance.now() < this.#refusedUntil;
  }

  /** There are no sessions there. */
  refuse(): void {
    this.#refusedUntil = performance.now() + REFUSED_FOR_MS;
  }
}
