/**
 * What is kept alive in the background: leases and registrations.
 *
 * Both know until when they are sure to live: the TTL that was confirmed, counted from when the sign of life was sent, by this
 * machine's monotonic clock. So they err early.
 */

import type { LeaseGranted } from "./answers.js";
import type { Client } from "./client.js";
import { QuorumorError } from "./errors.js";
import { inBackground, type CallOptions } from "./options.js";
import { awaitedMs, REFUSALS, type Health, type Instance, type RegisterAnswer } from "./registry.js";

/** The pause after a failure, so that a dead cluster isn't hammered. Each next one doubles, with jitter, up to the interval. */
const PAUSE_MS = 50;
/** The longest pause after a failure, before jitter. */
const PAUSE_MS_MAX = 2_000;
/** The longest that one sign of life is waited for. */
const PATIENCE_MS_MAX = 2_000;

/**
 * When the next sign of life is due: one a third of the TTL, or twice in the time within which a word is awaited, but never past the
 * middle of what is left.
 */
export class Schedule {
  /** Until then it is sure to live, by the monotonic clock. */
  until: number;
  readonly #intervalMs: number;
  #next: number;
  #pauseMs = PAUSE_MS;

  constructor(ttlMs: number, asked: number, awaited = Infinity) {
    this.#intervalMs = Math.min(ttlMs / 3, awaited / 2);
    this.until = asked + ttlMs;
    this.#next = asked + this.#intervalMs;
  }

  get pauseMs(): number {
    return Math.max(this.#next - performance.now(), 0);
  }

  /** Whether nothing is sure any more. */
  get ranOut(): boolean {
    return performance.now() >= this.until;
  }

  /** How long the next one is waited for. */
  get patienceMs(): number {
    const left = this.until - performance.now();
    const wait = Math.min(this.#intervalMs, PATIENCE_MS_MAX);
    return Math.max(left > 0 ? Math.min(wait, left) : wait, 100);
  }

  now(): void {
    this.#next = performance.now();
  }

  /** One that was sent then was confirmed. */
  confirmed(sent: number, leftMs: number): void {
    this.renewed(sent, leftMs);
    this.#pauseMs = PAUSE_MS;
  }

  /** It was registered again then. Pauses begin anew only once a sign of life has found it. */
  renewed(sent: number, leftMs: number): void {
    this.until = Math.max(this.until, sent + leftMs);
    this.#next = sent + Math.min(this.#intervalMs, (this.until - sent) / 2);
  }

  /** The last one failed: again soon, while it lives before the middle of what is left. */
  failed(): void {
    const now = performance.now();
    const left = this.until - now;
    const pause = this.#pauseMs * (1 + Math.random());
    this.#pauseMs = Math.max(Math.min(this.#pauseMs * 2, this.#intervalMs, PAUSE_MS_MAX), PAUSE_MS);
    this.#next = now + (left > 0 ? Math.min(pause, Math.max(left / 2, PAUSE_MS)) : pause);
  }
}

/** Runs a step whenever it is due, until it is ended. */
class Keeper {
  readonly #ending = new AbortController();
  #timer?: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();

  constructor(
    readonly schedule: Schedule,
    readonly step: () => Promise<void>,
  ) {
    this.plan();
  }

  get ended(): boolean {
    return this.#ending.signal.aborted;
  }

  /** Looks anew when the next step is due. */
  plan(): void {
    clearTimeout(this.#timer);
    if (this.ended) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#running.then(async () => {
        // Another step may have come first.
        if (!this.ended && this.schedule.pauseMs === 0) await this.step();
        this.plan();
      });
    }, this.schedule.pauseMs);
  }

  /** No step begins any more. */
  stop(): void {
    this.#ending.abort();
    clearTimeout(this.#timer);
  }

  /** Stops, and waits for the step under way. */
  async end(): Promise<void> {
    this.stop();
    await this.#running;
  }
}

/** Why a lease counts as lost: it expired or was revoked; or no keep-alive was confirmed in time, so it may have expired. */
export type LostReason = "gone" | "unconfirmed";

/** A lease that is kept alive until it is closed, or lost. */
export class Lease {
  readonly id: bigint;
  readonly ttlMs: number;
  /** Resolves once nothing is sure any more. It stays so, whatever became of the lease. */
  readonly lost: Promise<LostReason>;
  lostReason?: LostReason;
  readonly #keeper: Keeper;
  #lose!: (why: LostReason) => void;

  constructor(
    readonly client: Client,
    granted: LeaseGranted,
    asked: number,
    readonly options: CallOptions,
    private readonly end: () => Promise<void>,
    readonly ended: (lease: Lease) => void,
  ) {
    this.id = granted.leaseId;
    this.ttlMs = granted.ttlMs;
    this.lost = new Promise((resolve) => (this.#lose = resolve));
    this.#keeper = new Keeper(new Schedule(granted.ttlMs, asked), () => this.#step());
  }

  /** Whether it is sure to live now. */
  get held(): boolean {
    return this.lostReason === undefined && !this.#keeper.schedule.ranOut;
  }

  /** Until when it is sure to live, as `performance.now` counts. */
  get until(): number {
    return this.#keeper.schedule.until;
  }

  /** Stops the keep-alives: the lease then expires when its TTL has passed. */
  async close(): Promise<void> {
    await this.#keeper.end();
    this.ended(this);
  }

  /** Stops the keep-alives, ends the lease and removes its keys. */
  async revoke(): Promise<void> {
    await this.close();
    try {
      await this.end();
    } catch (error) {
      if (!(error instanceof QuorumorError) || error.reason !== "LEASE_NOT_FOUND") throw error;
    }
  }

  /** Revokes it, unless it is lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (this.lostReason === undefined ? this.revoke() : this.close());
  }

  async #step(): Promise<void> {
    const { schedule } = this.#keeper;
    if (schedule.ranOut) return this.#losing("unconfirmed");
    const sent = performance.now();
    try {
      const { ttlMs } = await this.client.keepAlive(this.id, inBackground(this.options, schedule.patienceMs));
      if (ttlMs === undefined) return this.#losing("gone");
      schedule.confirmed(sent, ttlMs);
    } catch (error) {
      if (!(error instanceof QuorumorError)) throw error;
      schedule.failed();
    }
  }

  #losing(why: LostReason): void {
    this.lostReason = why;
    this.#keeper.stop();
    this.#lose(why);
  }
}

/**
 * How a registration stands: sure to be there; being registered again; refused by the registry, and not kept; taken out.
 */
export type RegistrationState = "registered" | "returning" | "refused" | "left";

/** An instance that is registered, kept alive, registered again when it is gone, and taken out at the end. */
export class Registration {
  state: RegistrationState = "registered";
  /** Why the last sign of life, or the last try to return, failed. */
  error?: QuorumorError;
  readonly #keeper: Keeper;
  #output = "";
  /** No sign of life has told that yet. A TTL check counts an instance as critical until one has. */
  #news: boolean;
  /** Of the answer that it was registered by last: whoever takes it out must have seen that. */
  #token: Uint8Array;

  constructor(
    readonly client: Client,
    readonly instance: Instance,
    readonly ttlMs: number | undefined,
    private health: Health | undefined,
    readonly options: CallOptions,
    /** The answer to the first registration. */
    readonly first: RegisterAnswer,
    asked: number,
    private readonly end: (token: Uint8Array) => Promise<void>,
    readonly ended: (registration: Registration) => void,
  ) {
    this.#token = first.receipt.token;
    const awaited = awaitedMs(instance);
    this.#news = awaited !== undefined;
    const schedule = new Schedule(first.ttlMs, asked, awaited);
    if (this.#news) schedule.now();
    this.#keeper = new Keeper(schedule, () => this.#step());
  }

  /** Until when it is sure to be there, as `performance.now` counts. */
  get until(): number {
    return this.#keeper.schedule.until;
  }

  /** Tells how the instance is, with a sign of life at once. */
  tell(health: Health, output = ""): void {
    this.health = health;
    this.#output = output;
    this.#news = true;
    this.#keeper.schedule.now();
    this.#keeper.plan();
  }

  /** Takes the instance out and stops the signs of life. */
  async close(): Promise<void> {
    if (this.state === "left") return;
    await this.#keeper.end();
    this.state = "left";
    this.ended(this);
    await this.end(this.#token);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #step(): Promise<void> {
    const { schedule } = this.#keeper;
    const sent = performance.now();
    const options = inBackground(this.options, schedule.patienceMs);
    try {
      const leftMs = await this.#confirm(options);
      if (leftMs === undefined) {
        this.state = "returning";
        this.#unheard();
        return;
      }
      if (this.state === "returning") schedule.renewed(sent, leftMs);
      else schedule.confirmed(sent, leftMs);
      this.state = "registered";
      this.error = undefined;
      // It was told while this one was under way, or by a registration, which has no words for it.
      if (this.#news) schedule.now();
    } catch (error) {
      if (!(error instanceof QuorumorError)) throw error;
      this.error = error;
      this.#unheard();
      if (this.state === "returning" && REFUSALS.includes(error.reason)) {
        this.state = "refused";
        this.#keeper.stop();
      }
    }
  }

  /** Nobody heard what it told of itself. */
  #unheard(): void {
    this.#news = true;
    this.#keeper.schedule.failed();
  }

  /** How long it lives then; undefined if it is gone. */
  async #confirm(options: CallOptions): Promise<number | undefined> {
    const { instance, health } = this;
    if (this.state !== "returning" && !this.#keeper.schedule.ranOut) {
      const told = { ...options, health, output: this.#output };
      this.#news = false;
      return (await this.client.beat(instance.service, instance.instanceId, told)).ttlMs;
    }
    this.state = "returning";
    const { receipt, ttlMs } = await this.client.registerOnce(instance, { ...options, ttlMs: this.ttlMs, health });
    this.#token = receipt.token;
    this.#news ||= awaitedMs(instance) !== undefined;
    return ttlMs;
  }
}
