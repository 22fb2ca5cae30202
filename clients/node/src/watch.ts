/**
 * A watch that outlives its connection: an async iterator of steps.
 *
 * It resumes from the cursor of its last step, so that no change is missed or repeated. Where that can't be, it gives a step of
 * kind "resync": forget what was seen, a snapshot follows. In strong mode a cursor is good at any node; in eventual mode at the
 * node that gave it, so that node is asked first.
 */

import type { ClientReadableStream } from "@grpc/grpc-js";
import { entryFromWire, versionFromWire, type Entry, type Receipt, type Version } from "./answers.js";
import { receiptOf, type Core, type KnownOptions } from "./core.js";
import { backoff, mayRetry, wantsLeader } from "./course.js";
import { ContactLost, fromService, InvalidCall, refusesToken, type QuorumorError } from "./errors.js";
import { method, type Wire } from "./wire.js";

/** Tries at the node that a cursor belongs to, before another one is asked. */
const HOME_TRIES = 3;

/** One step of a watch, with where to resume behind it (empty before the snapshot is complete). */
export type WatchStep<S, C> = { cursor: Uint8Array; receipt: Receipt } & (
  | { kind: "snapshot"; entries: S[]; complete: boolean }
  | { kind: "changes"; changes: C[] }
  /** `reason`: SLOW_WATCHER, HISTORY_GONE, FOREIGN_CURSOR, EPOCH_CHANGED, STATE_REPLACED or CONTACT_LOST. */
  | { kind: "resync"; reason: string; oldestRevision: bigint }
  | { kind: "progress" }
);

/** One key's change. */
export interface WatchEvent {
  key: string;
  /** The new entry; none if the key is gone. */
  entry?: Entry;
  /** Of the put or of the deletion. */
  version: Version;
  /** What the key held before, if that was asked for and there was something. */
  previous?: Entry;
}

/** Reads a change. */
export function eventFromWire(wire: Wire): WatchEvent {
  const previous = entryFromWire(wire.previous);
  const entry = entryFromWire(wire.put);
  if (entry) return { key: entry.key, entry, version: entry.version, previous };
  return { key: wire.deletion.key, version: versionFromWire(wire.deletion.version), previous };
}

/** What is watched, and how its steps are read. */
export interface Watched<S, C> {
  service: "StateService" | "RegistryService";
  method: string;
  request: Wire;
  entries: (snapshot: Wire) => S[];
  changes: (changes: Wire) => C[];
}

interface Outage {
  since: number;
  tried: number[];
  homeTries: number;
  pauses: Generator<number, never>;
}

/** A running watch. */
export class Watch<S, C> implements AsyncIterableIterator<WatchStep<S, C>> {
  /** Where to resume behind the last message; empty before a snapshot is complete. */
  cursor: Uint8Array;
  readonly #closing = new AbortController();
  #stream?: ClientReadableStream<Wire>;
  #messages?: AsyncIterator<Wire>;
  #place = 0;
  #home?: number;
  #begun = false;
  #token: Uint8Array = new Uint8Array();
  #outage?: Outage;
  /** The changes so far of a revision that comes in several messages: given once it is whole. */
  #parts: C[] = [];
  /** The newest revision that was given as a change: nothing at or below it is given again. */
  #seen = 0n;
  #queue: WatchStep<S, C>[] = [];

  constructor(
    readonly core: Core,
    readonly watched: Watched<S, C>,
    readonly options: KnownOptions,
    readonly ended: (watch: Watch<S, C>) => void,
  ) {
    this.cursor = watched.request.cursor ?? new Uint8Array();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** The next step. Throws an error that a retry can't help, or an outage longer than the client's watch patience. */
  async next(): Promise<IteratorResult<WatchStep<S, C>, undefined>> {
    for (;;) {
      const step = this.#queue.shift();
      if (step !== undefined) return { done: false, value: step };
      if (this.#closing.signal.aborted) return { done: true, value: undefined };
      await this.#read();
    }
  }

  /** Ends the watch; so does leaving a `for await`. */
  async return(): Promise<IteratorResult<WatchStep<S, C>, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** Ends the watch. */
  close(): void {
    this.#closing.abort();
    this.#stream?.cancel();
    this.ended(this);
  }

  async #read(): Promise<void> {
    const address = () => this.core.endpoints.addresses[this.#place]!;
    try {
      this.#messages ??= await this.#open();
      const { done, value } = await this.#messages.next();
      if (done) throw new ContactLost(`${address()} ended the stream`, address());
      this.#take(value);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      this.#messages = undefined;
      try {
        await this.core.wait(this.#broke(fromService(address(), error)), this.#closing.signal);
      } catch (final) {
        this.close();
        throw final;
      }
    }
  }

  async #open(): Promise<AsyncIterator<Wire>> {
    this.#place = this.#pick();
    const { service, method: name, request } = this.watched;
    const { path, requestSerialize, responseDeserialize } = method(service, name);
    const channel = await this.core.connected(this.#place, this.options.timeoutMs);
    const startRevision = this.cursor.length > 0 || this.#begun ? 0 : request.startRevision;
    const header = this.core.header(this.options);
    // A cursor says where to go on. What the session has seen elsewhere may be gone for good.
    if (this.cursor.length > 0) header.token = new Uint8Array();
    this.#token = header.token;
    const linearizable = this.options.level === undefined || this.options.level === "linearizable";
    // A node that was cut off from the others would go on as if no instance changed any more.
    const endOnLeaderLost = service === "RegistryService" && linearizable && this.core.mode(this.options) === "strong";
    const message = { ...request, startRevision, cursor: this.cursor, header, endOnLeaderLost };
    const metadata = this.core.metadata(this.core.endpoints.addresses[this.#place]!);
    const stream = channel.makeServerStreamRequest(path, requestSerialize, responseDeserialize, message, metadata);
    // An error that comes when nobody reads, after a cancel, is of no interest.
    stream.on("error", () => {});
    this.#stream = stream;
    if (this.#closing.signal.aborted) stream.cancel();
    return stream[Symbol.asyncIterator]();
  }

  /** The endpoint to open a stream at. */
  #pick(): number {
    const { endpoints } = this.core;
    if (this.options.endpoint !== undefined) return endpoints.place(this.options.endpoint);
    const wantLeader = wantsLeader(this.core, "read", this.options);
    const outage = this.#outage;
    if (outage === undefined) return endpoints.next(wantLeader, []) ?? 0;
    const eventual = this.core.mode(this.options) === "eventual";
    if (this.#home !== undefined && this.cursor.length > 0 && eventual && outage.homeTries < HOME_TRIES) {
      outage.homeTries += 1;
      return this.#home;
    }
    if (endpoints.next(wantLeader, outage.tried) === undefined) outage.tried = [];
    const place = endpoints.next(wantLeader, outage.tried) ?? 0;
    outage.tried.push(place);
    return place;
  }

  /** Queues what a message gives. */
  #take(message: Wire): void {
    const receipt = receiptOf(message);
    this.core.learn(this.#place, receipt, this.options);
    this.#home = this.#place;
    const cutOff = this.#outage !== undefined && this.#begun && this.cursor.length === 0;
    this.#outage = undefined;
    const isResync = message.step === "resync";
    if (message.step === "changes" && message.changes.more) {
      this.#parts.push(...this.watched.changes(message.changes));
      return;
    }
    if (cutOff && !isResync) {
      this.#queue.push({ kind: "resync", reason: "CONTACT_LOST", oldestRevision: 0n, cursor: new Uint8Array(), receipt });
    }
    if (cutOff || isResync) this.#seen = 0n;
    this.#begun = !isResync;
    this.cursor = message.cursor;
    const step = this.#step(message, receipt);
    this.#parts = [];
    if (step) this.#queue.push(step);
  }

  #step(message: Wire, receipt: Receipt): WatchStep<S, C> | undefined {
    const common = { cursor: message.cursor as Uint8Array, receipt };
    switch (message.step) {
      case "snapshot":
        return { ...common, kind: "snapshot", entries: this.watched.entries(message.snapshot), complete: message.snapshot.complete };
      case "resync":
        return { ...common, kind: "resync", reason: message.resync.reason, oldestRevision: BigInt(message.resync.oldestRevision) };
      case "changes": {
        const all = [...this.#parts, ...this.watched.changes(message.changes)];
        const changes = this.#newIn(all);
        return changes.length > 0 ? { ...common, kind: "changes", changes } : undefined;
      }
      default:
        return { ...common, kind: "progress" };
    }
  }

  /** Those that weren't given before: a node that resumes a watch may begin too early, never too late. */
  #newIn(changes: C[]): C[] {
    const seen = this.#seen;
    return changes.filter((change) => {
      const revision = (change as Partial<WatchEvent>).version?.modRevision ?? 0n;
      if (revision > this.#seen) this.#seen = revision;
      return revision === 0n || revision > seen;
    });
  }

  /** Plans the next stream: milliseconds until then. Throws the error if there is to be none. */
  #broke(error: QuorumorError): number {
    if (error instanceof InvalidCall) throw error;
    this.core.endpoints.leave(this.#place);
    this.core.learnFromError(this.#place, error, this.options, this.#token);
    this.#parts = [];
    const { retries, watchPatienceMs } = this.core;
    // The session's token, which is forgotten now, ends no watch that had begun.
    const goesOn = this.#home !== undefined && this.options.token === undefined && refusesToken(error);
    if (retries.attemptsMax <= 1 || !(goesOn || mayRetry(error, "read"))) throw error;
    this.#outage ??= { since: performance.now(), tried: [], homeTries: 0, pauses: backoff(retries) };
    const ms = this.#outage.pauses.next().value;
    if (performance.now() + ms > this.#outage.since + watchPatienceMs) throw error;
    return ms;
  }
}
