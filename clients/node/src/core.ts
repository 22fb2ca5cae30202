/** What carries calls out: headers, the session, connections. */

import { setTimeout as pause } from "node:timers/promises";
import { Client as Channel, connectivityState, credentials, Metadata, type CallOptions as GrpcOptions } from "@grpc/grpc-js";
import { receiptFromWire, type Answer, type Receipt } from "./answers.js";
import { Budget, Course, type Kind } from "./course.js";
import { Endpoints, isLoopback } from "./endpoints.js";
import { ContactLost, fromService, InvalidCall, NodeError, QuorumorError, refusesToken, Unreachable } from "./errors.js";
import { badWord, type CallOptions, type ClientOptions, type Mode, type RetryPolicy } from "./options.js";
import { Numbering, Numbers, Session, type WriteNumber } from "./session.js";
import { duration, method, type Wire } from "./wire.js";

/** One call. Its request lacks only the header. */
export interface Call<A extends Answer> {
  service?: "StateService" | "RegistryService";
  method: string;
  kind: Kind;
  request: Wire;
  read: (wire: Wire) => A;
}

const CONNECT_MS = 2_000;
const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 500,
  // Retries are this client's, by certainty; and a channel is one endpoint, with a connection of its own.
  "grpc.service_config_disable_resolution": 1,
  "grpc.use_local_subchannel_pool": 1,
};
const RETRIES: RetryPolicy = { attemptsMax: 16, delayMinMs: 20, delayMaxMs: 500 };

/** Options of a call over those of its client. */
export type KnownOptions = CallOptions & { timeoutMs: number };

/** The state of one client. */
export class Core {
  readonly endpoints: Endpoints;
  readonly session = new Session();
  readonly numbering = new Numbering();
  readonly retries: RetryPolicy;
  readonly watchPatienceMs: number;
  readonly exactlyOnce: boolean;
  readonly budget = new Budget();
  readonly closing = new AbortController();
  readonly #defaults: KnownOptions;
  readonly #channels = new Map<string, Channel>();

  constructor(readonly settings: ClientOptions) {
    const wrong = badWord(settings);
    if (wrong !== undefined) throw new InvalidCall(wrong);
    this.endpoints = new Endpoints(settings.endpoints, settings.followHints ?? true, settings.credentials !== undefined);
    this.retries = settings.retries ?? RETRIES;
    this.watchPatienceMs = settings.watchPatienceMs ?? 60_000;
    this.exactlyOnce = settings.exactlyOnce ?? false;
    this.#defaults = { mode: settings.mode, level: settings.level, timeoutMs: settings.timeoutMs ?? 5_000 };
  }

  /** A call's options over the client's. */
  options(options: CallOptions): KnownOptions {
    if (this.closing.signal.aborted) throw new InvalidCall("the client is closed");
    const wrong = badWord(options);
    if (wrong !== undefined) throw new InvalidCall(wrong);
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    return { ...this.#defaults, ...given };
  }

  /** The mode that a call is served in, if it is known. */
  mode(options: CallOptions = this.#defaults): Mode | undefined {
    return options.mode ?? this.session.defaultMode;
  }

  /** The header of a request, the same for each try. */
  header(options: KnownOptions, number?: WriteNumber): Wire {
    const demands = options.level === "bounded" || options.level === "sampled";
    const { maxAgeMs, maxLag, members } = options;
    return {
      mode: `MODE_${(options.mode ?? "unspecified").toUpperCase()}`,
      level: `LEVEL_${(options.level ?? "unspecified").toUpperCase()}`,
      token: options.token ?? this.session.token(this.mode(options)),
      allowDegraded: options.allowDegraded ?? false,
      requestId: options.requestId ?? this.session.requestId(),
      acks: options.acks ?? 0,
      clientId: String(number?.clientId ?? 0),
      seq: number?.seq ?? 0,
      ackedThrough: number?.ackedThrough ?? 0,
      bound: demands
        ? {
            members: members ?? 0,
            ...(maxLag !== undefined && { maxLag: String(maxLag) }),
            ...(maxAgeMs !== undefined && { maxAge: duration(maxAgeMs) }),
          }
        : undefined,
    };
  }

  /** Takes in what a receipt tells: who is where, who leads, and what the session has seen. */
  learn(place: number, receipt: Receipt, options: CallOptions): void {
    this.endpoints.learn(place, receipt);
    if (options.mode === undefined) this.session.defaultMode = receipt.mode;
    if (options.token === undefined) this.session.absorb(receipt);
  }

  /** Takes in what an error tells of a request that carried this token. */
  learnFromError(place: number, error: QuorumorError, options: CallOptions, token: Uint8Array): void {
    if (error.receipt) this.learn(place, error.receipt, options);
    if (options.token === undefined && refusesToken(error)) this.session.forget(this.mode(options), token);
    if (error instanceof NodeError && error.leader !== undefined) {
      this.endpoints.learnLeader({ term: error.receipt?.term ?? 0n, nodeId: error.leader, address: error.leaderAddress });
    }
  }

  /** Carries out a call: tries until there is an answer, or an error that ends it. */
  async run<A extends Answer>(call: Call<A>, options: CallOptions, number?: WriteNumber, until?: number): Promise<A> {
    const known = this.options(options);
    const course = new Course(this, number ? "numbered" : call.kind, known, until ?? performance.now() + known.timeoutMs);
    const request = { ...call.request, header: this.header(known, number) };
    for (;;) {
      const place = course.next();
      try {
        const answer = call.read(await this.#send(call, request, place, course.tryTimeoutMs()));
        this.learn(place, answer.receipt, known);
        this.budget.earn();
        return answer;
      } catch (error) {
        if (error instanceof InvalidCall) throw error;
        await this.wait(course.after(place, fromService(this.endpoints.addresses[place]!, error), request.header.token));
      }
    }
  }

  /** Carries out a write, under a number of the session if writes are numbered. */
  async write<A extends Answer>(call: Call<A>, options: CallOptions): Promise<A> {
    const until = performance.now() + this.options(options).timeoutMs;
    for (const last of [false, true]) {
      const numbers = await this.#numbers(options, until);
      if (numbers === undefined) break;
      const number = await this.#number(numbers, until);
      try {
        return await this.run(call, options, number, until);
      } catch (error) {
        if (!(error instanceof QuorumorError) || error.reason !== "SESSION_EXPIRED") throw error;
        this.numbering.current = undefined;
        if (error.outcomeUnknown || last) throw error;
      } finally {
        numbers.done(number);
      }
    }
    return this.run(call, options, undefined, until);
  }

  /** Ends what was kept alive. Of what the session has seen it demands this token: the rest may be gone for good. */
  async end(call: Call<Answer>, options: CallOptions, token: Uint8Array = new Uint8Array()): Promise<void> {
    const send = (given: Uint8Array) => {
      const known = { ...options, token: given };
      return call.kind === "write" ? this.write(call, known) : this.run(call, known);
    };
    const again = (error: unknown) => {
      if (!(error instanceof QuorumorError) || !refusesToken(error)) throw error;
      return send(new Uint8Array());
    };
    this.session.absorb((await send(token).catch(again)).receipt);
  }

  /** Waits, unless the client is closed meanwhile. */
  async wait(ms: number, signal: AbortSignal = this.closing.signal): Promise<void> {
    try {
      await pause(ms, undefined, { signal });
    } catch {
      if (this.closing.signal.aborted) throw new InvalidCall("the client is closed");
    }
  }

  /** A connection that is up: from here on a request may have been sent. */
  async connected(place: number, timeoutMs: number): Promise<Channel> {
    const address = this.endpoints.addresses[place]!;
    const channel = this.#channel(address);
    const until = performance.now() + Math.min(timeoutMs, CONNECT_MS);
    for (;;) {
      const state = channel.getChannel().getConnectivityState(true);
      if (state === connectivityState.READY) return channel;
      const left = until - performance.now();
      if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN || left <= 0) {
        throw new Unreachable(`can't connect to ${address}`, address);
      }
      await new Promise<void>((resolve) => {
        channel.getChannel().watchConnectivityState(state, new Date(Date.now() + left), () => resolve());
      });
    }
  }

  /** What proves who calls. */
  metadata(address: string): Metadata {
    const { authToken, credentials: secure, plainToken } = this.settings;
    const metadata = new Metadata();
    if (authToken === undefined) return metadata;
    if (secure === undefined && !plainToken && !isLoopback(address)) {
      throw new InvalidCall(`the bearer token isn't sent to ${address} without TLS (see plainToken)`);
    }
    metadata.set("authorization", `Bearer ${authToken}`);
    return metadata;
  }

  /** Closes the session of the cluster and the connections. */
  async close(): Promise<void> {
    const numbers = await this.numbering.current?.catch(() => undefined);
    if (numbers !== undefined) {
      const request = { clientId: String(numbers.clientId) };
      const call = { method: "CloseSession", kind: "harmless" as const, request, read: (wire: Wire) => wire };
      // Else it goes when its time is up.
      await this.#send(call, { ...request, header: this.header(this.options({ token: new Uint8Array() })) }, this.endpoints.next(true, []) ?? 0, 1_000).catch(() => {});
    }
    this.closing.abort();
    for (const channel of this.#channels.values()) channel.close();
  }

  #channel(address: string): Channel {
    if (this.closing.signal.aborted) throw new InvalidCall("the client is closed");
    let channel = this.#channels.get(address);
    if (channel === undefined) {
      channel = new Channel(address, this.settings.credentials ?? credentials.createInsecure(), CHANNEL_OPTIONS);
      this.#channels.set(address, channel);
    }
    return channel;
  }

  async #send(call: Call<Answer>, request: Wire, place: number, timeoutMs: number): Promise<Wire> {
    const started = performance.now();
    const address = this.endpoints.addresses[place]!;
    const metadata = this.metadata(address);
    const channel = await this.connected(place, timeoutMs);
    const { path, requestSerialize, responseDeserialize, requestStream } = method(call.service ?? "StateService", call.method);
    const left = Math.max(timeoutMs - (performance.now() - started), 1);
    const options: GrpcOptions = { deadline: new Date(Date.now() + left) };
    return new Promise((resolve, reject) => {
      if (!requestStream) {
        channel.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, options, (error, answer) =>
          error ? reject(error) : resolve(answer),
        );
        return;
      }
      const stream = channel.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, options);
      stream.on("error", reject);
      stream.on("end", () => reject(new ContactLost(`${address} ended the stream`, address)));
      stream.once("data", (answer) => {
        resolve(answer);
        stream.cancel();
      });
      stream.end(request);
    });
  }

  /** The session, opened if need be; undefined where writes aren't numbered. */
  async #numbers(options: CallOptions, until: number): Promise<Numbers | undefined> {
    if (!this.exactlyOnce || this.numbering.refused || this.mode(this.options(options)) === "eventual") return undefined;
    this.numbering.current ??= this.#open(options, until);
    return this.numbering.current;
  }

  async #open(options: CallOptions, until: number): Promise<Numbers | undefined> {
    try {
      const read = (wire: Wire) => ({ receipt: receiptOf(wire), clientId: BigInt(wire.clientId) });
      const call = { method: "OpenSession", kind: "harmless" as const, request: {}, read };
      return new Numbers((await this.run(call, options, undefined, until)).clientId);
    } catch (error) {
      this.numbering.current = undefined;
      if (!(error instanceof QuorumorError)) throw error;
      // Eventual mode, or a caller that may open none: the write itself will tell what is wrong.
      if (["GUARANTEE_UNAVAILABLE", "MODE_NOT_SERVED", "PERMISSION_DENIED"].includes(error.reason)) {
        this.numbering.refuse();
        return undefined;
      }
      // Nothing of the write was sent, whatever became of the session.
      if (!(error instanceof NodeError)) throw new Unreachable(`no session could be opened: ${error.message}`, error.endpoint);
      error.certainty = "not_applied";
      throw error;
    }
  }

  async #number(numbers: Numbers, until: number): Promise<WriteNumber> {
    for (;;) {
      const number = numbers.take();
      if (number !== undefined) return number;
      if (performance.now() > until) throw new InvalidCall("too many writes of the session are under way");
      await this.wait(5);
    }
  }
}

/** The receipt of an answer. */
export function receiptOf(wire: Wire): Receipt {
  return receiptFromWire(wire.receipt);
}
