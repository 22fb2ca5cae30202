/** The client: its calls. How they are carried out is told in `core` and `course`. */

import {
  entryFromWire,
  memberFromWire,
  resultFromWire,
  versionFromWire,
  type Answer,
  type CompareAnswer,
  type DeleteAnswer,
  type Description,
  type Entry,
  type GetAnswer,
  type KeptAnswer,
  type LeaseGranted,
  type ListAnswer,
  type PutAnswer,
  type TxnAnswer,
} from "./answers.js";
import { Core, receiptOf, type Call } from "./core.js";
import { fromStatus, QuorumorError } from "./errors.js";
import { Lease, Registration } from "./keeping.js";
import { expectedToWire, rangeToWire, type Compare, type Expected, type KeyRange, type Op } from "./operations.js";
import type { CallOptions, ClientOptions, Mode } from "./options.js";
import * as registry from "./registry.js";
import { eventFromWire, Watch, type WatchEvent } from "./watch.js";
import { bytes, duration, millis, word, type Wire } from "./wire.js";

/** The end of a lease. */
function revocation(leaseId: bigint): Call<Answer> {
  const read = (wire: Wire) => ({ receipt: receiptOf(wire) });
  return { method: "LeaseRevoke", kind: "write", request: { leaseId: String(leaseId) }, read };
}

interface Closable {
  close(): void | Promise<void>;
}

/**
 * Speaks to a cluster in either mode, with the same calls.
 *
 * - Every answer carries a receipt; errors carry one too, wherever a node made them.
 * - The token of each receipt goes with the next request, so that the client reads its own writes and never goes back, at any node.
 * - A write of a key or a lease is never applied twice by a retry. What was certainly not applied is tried again, within the
 *   deadline; what may have been is returned as such, unless `exactlyOnce` numbers the writes in a session of the cluster
 *   (strong mode). Registering and taking out may be carried out twice, which is the same as once.
 */
export class Client {
  readonly #core: Core;
  readonly #background = new Set<Closable>();
  #closed = false;

  constructor(options: ClientOptions) {
    this.#core = new Core(options);
  }

  /** Ends watches, leases and registrations, and closes the connections. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const ends = [...this.#background].map(async (one) => one.close());
    // What can't be told now goes by itself when its time is up.
    for (const end of await Promise.allSettled(ends)) {
      if (end.status === "rejected" && !(end.reason instanceof QuorumorError)) throw end.reason;
    }
    await this.#core.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What the session has seen, to hand over to another client. Opaque. */
  sessionToken(mode?: Mode): Uint8Array {
    return this.#core.session.token(mode ?? this.#core.mode());
  }

  /** Goes on from another session's token: every later call sees what that session saw. */
  useToken(token: Uint8Array, mode: Mode): void {
    this.#core.session.replace(mode, token);
  }

  /** Forgets what was seen: the next read may be older. */
  resetSession(): void {
    this.#core.session.reset();
  }

  /** Sets a key. Without a lease it is freed from its lease. `context` (eventual mode): replaces what that entry stood for. */
  put(key: string, value: Uint8Array | string, options: CallOptions & { leaseId?: bigint; context?: Uint8Array } = {}): Promise<PutAnswer> {
    const { leaseId, context, ...rest } = options;
    const request = { key, value: bytes(value), leaseId: String(leaseId ?? 0), context };
    const read = (wire: Wire) => ({ receipt: receiptOf(wire), version: versionFromWire(wire.version) });
    return this.#core.write({ method: "Put", kind: "write", request, read }, rest);
  }

  /** Reads a key, in strong mode if asked as it was at a revision. An absent key is an answer. */
  get(key: string, options: CallOptions & { revision?: bigint } = {}): Promise<GetAnswer> {
    const { revision, ...rest } = options;
    const read = (wire: Wire) => {
      const entry = wire.found ? entryFromWire(wire.entry) : undefined;
      return { receipt: receiptOf(wire), entry, value: entry?.value };
    };
    return this.#core.run({ method: "Get", kind: "read", request: { key, revision: String(revision ?? 0) }, read }, rest);
  }

  /** Removes a key. Removing an absent one is no error. */
  delete(key: string, options: CallOptions = {}): Promise<DeleteAnswer> {
    const read = (wire: Wire) => ({ receipt: receiptOf(wire), previous: entryFromWire(wire.previous) });
    return this.#core.write({ method: "Delete", kind: "write", request: { key }, read }, options);
  }

  /** Sets a key if it is as expected. A lost compare is an answer. Strong mode only: eventual mode refuses it. */
  compareAndSet(
    key: string,
    expected: Expected,
    value: Uint8Array | string,
    options: CallOptions & { leaseId?: bigint } = {},
  ): Promise<CompareAnswer> {
    const { leaseId, ...rest } = options;
    const request = { key, expected: expectedToWire(expected), value: bytes(value), leaseId: String(leaseId ?? 0) };
    const read = (wire: Wire) => ({ receipt: receiptOf(wire), succeeded: wire.succeeded, entry: entryFromWire(wire.entry) });
    return this.#core.write({ method: "CompareAndSet", kind: "write", request, read }, rest);
  }

  /** Carries out `success` if all compares hold, else `failure`, at one revision. Strong mode only. */
  txn(compares: Compare[], success: Op[], failure: Op[] = [], options: CallOptions = {}): Promise<TxnAnswer> {
    const wires = (list: { wire: Wire }[]) => list.map(({ wire }) => wire);
    const request = { compares: wires(compares), success: wires(success), failure: wires(failure) };
    const read = (wire: Wire) => ({ receipt: receiptOf(wire), succeeded: wire.succeeded, results: wire.results.map(resultFromWire) });
    return this.#core.write({ method: "Txn", kind: "write", request, read }, options);
  }

  /** One page of the keys of a range, in key order. */
  listPage(
    range: KeyRange,
    options: CallOptions & { limit?: number; pageToken?: Uint8Array; keysOnly?: boolean; revision?: bigint } = {},
  ): Promise<ListAnswer> {
    const { limit, pageToken, keysOnly, revision, ...rest } = options;
    const request = { range: rangeToWire(range), limit, pageToken, keysOnly, revision: String(revision ?? 0) };
    const read = (wire: Wire) => ({ receipt: receiptOf(wire), entries: wire.entries.map(entryFromWire), nextPageToken: wire.nextPageToken });
    return this.#core.run({ method: "List", kind: "read", request, read }, rest);
  }

  /** The entries of a range, page by page. In strong mode all pages are of one state. */
  async *list(range: KeyRange, options: CallOptions & { limit?: number; keysOnly?: boolean } = {}): AsyncGenerator<Entry, void> {
    let pageToken: Uint8Array | undefined;
    let revision: bigint | undefined;
    do {
      const page: ListAnswer = await this.listPage(range, { ...options, pageToken, revision });
      yield* page.entries;
      pageToken = page.nextPageToken;
      revision = page.receipt.revision;
    } while (pageToken.length > 0);
  }

  /** A snapshot of a range, then its changes in order; from a cursor on, only the changes. Resumes by itself. */
  watch(
    range: KeyRange,
    options: CallOptions & { cursor?: Uint8Array; previous?: boolean; startRevision?: bigint } = {},
  ): Watch<Entry, WatchEvent> {
    const { cursor, previous, startRevision, ...rest } = options;
    const request = { range: rangeToWire(range), cursor, previous, startRevision: String(startRevision ?? 0) };
    const entries = (wire: Wire) => wire.entries.map(entryFromWire);
    const changes = (wire: Wire) => wire.events.map(eventFromWire);
    const watched = { service: "StateService", method: "Watch", request, entries, changes } as const;
    return this.#keep(new Watch<Entry, WatchEvent>(this.#core, watched, this.#core.options(rest), this.#forget));
  }

  /** Grants a lease, which nobody keeps alive by itself. The TTL is raised to the cluster's minimum. */
  grantLease(ttlMs: number, options: CallOptions & { leaseId?: bigint } = {}): Promise<LeaseGranted> {
    const { leaseId, ...rest } = options;
    const request = { ttl: duration(ttlMs), leaseId: String(leaseId ?? 0) };
    const read = (wire: Wire) => ({ receipt: receiptOf(wire), leaseId: BigInt(wire.leaseId), ttlMs: millis(wire.ttl) ?? 0 });
    return this.#core.write({ method: "LeaseGrant", kind: "write", request, read }, rest);
  }

  /** Lets a lease live for its whole TTL again, once. */
  keepAlive(leaseId: bigint, options: CallOptions = {}): Promise<KeptAnswer> {
    const read = (wire: Wire) => {
      if (wire.status.length > 0) throw fromStatus(wire.status, "the node");
      return { receipt: receiptOf(wire), ttlMs: millis(wire.ttl) };
    };
    const request = { leaseId: String(leaseId) };
    return this.#core.run({ method: "LeaseKeepAlive", kind: "harmless", request, read }, options);
  }

  /** Ends a lease and removes its keys. */
  revokeLease(leaseId: bigint, options: CallOptions = {}): Promise<Answer> {
    return this.#core.write(revocation(leaseId), options);
  }

  /** Grants a lease and keeps it alive in the background. */
  async lease(ttlMs: number, options: CallOptions = {}): Promise<Lease> {
    const asked = performance.now();
    const granted = await this.grantLease(ttlMs, options);
    const end = () => this.#core.end(revocation(granted.leaseId), options);
    return this.#keep(new Lease(this, granted, asked, options, end, this.#forget));
  }

  /** Tells what a node is: one of the endpoints, or the one that `endpoint` names. */
  describe(options: CallOptions = {}): Promise<Description> {
    const read = (wire: Wire): Description => ({
      receipt: receiptOf(wire),
      modes: wire.modes.map((mode: string) => word(mode, "MODE_")),
      clusterName: wire.clusterName,
      health: wire.health,
      members: wire.members.map(memberFromWire),
      keys: BigInt(wire.keys),
      version: wire.build?.version ?? "",
      message: wire,
    });
    return this.#core.run({ method: "Describe", kind: "describe", request: {}, read }, options);
  }

  /** Registers an instance, or replaces its registration, and keeps it alive in the background until it is closed. */
  async register(instance: registry.Instance, options: CallOptions & { ttlMs?: number; health?: registry.Health } = {}): Promise<Registration> {
    const { ttlMs, health, ...rest } = options;
    const asked = performance.now();
    const first = await this.registerOnce(instance, options);
    const end = (token: Uint8Array) => this.#core.end(registry.deregister(instance.service, instance.instanceId), rest, token);
    return this.#keep(new Registration(this, instance, ttlMs, health, rest, first, asked, end, this.#forget));
  }

  /** Registers an instance, or replaces its registration, which nobody keeps alive by itself. */
  registerOnce(
    instance: registry.Instance,
    options: CallOptions & { ttlMs?: number; health?: registry.Health; leaseId?: bigint } = {},
  ): Promise<registry.RegisterAnswer> {
    const { ttlMs, health, leaseId, ...rest } = options;
    return this.#core.run(registry.register(instance, ttlMs, health, leaseId), rest);
  }

  /** Gives a sign of life of an instance, once, and tells its health. */
  beat(service: string, instanceId: string, options: CallOptions & { health?: registry.Health; output?: string } = {}): Promise<KeptAnswer> {
    const { health, output, ...rest } = options;
    return this.#core.run(registry.beat(service, instanceId, health, output), rest);
  }

  /** Takes an instance out. One that is gone is no error. */
  deregister(service: string, instanceId: string, options: CallOptions = {}): Promise<registry.DeregisterAnswer> {
    return this.#core.run(registry.deregister(service, instanceId), options);
  }

  /** The instances of a service. */
  discover(service: string, options: CallOptions & registry.DiscoverQuery = {}): Promise<registry.DiscoverAnswer> {
    const { filter, health, zone, zoneRule, limit, pageToken, ...rest } = options;
    return this.#core.run(registry.discover(service, { filter, health, zone, zoneRule, limit, pageToken }), rest);
  }

  /** The services, with how many instances each has. */
  services(options: CallOptions & { after?: string; limit?: number } = {}): Promise<registry.ServicesAnswer> {
    const { after, limit, ...rest } = options;
    return this.#core.run(registry.services(after ?? "", limit ?? 0), rest);
  }

  /** The instances of a service (of all of them if the name is empty), then their changes. Resumes by itself. */
  watchService(
    service: string,
    options: CallOptions & { filter?: string; health?: "usable" | "passing" | "any"; cursor?: Uint8Array } = {},
  ): Watch<registry.ServiceInstance, registry.ServiceChange> {
    const { filter, health, cursor, ...rest } = options;
    const request = { service, filter, health: registry.FILTERS[health ?? "usable"], cursor };
    const entries = (wire: Wire) => wire.instances.map(registry.instanceFromWire);
    const changes = (wire: Wire) => wire.changes.map(registry.changeFromWire);
    const watched = { service: "RegistryService", method: "WatchService", request, entries, changes } as const;
    const known = this.#core.options(rest);
    return this.#keep(new Watch<registry.ServiceInstance, registry.ServiceChange>(this.#core, watched, known, this.#forget));
  }

  /** The nodes as the answering one believes them. */
  nodes(options: CallOptions & { after?: bigint; limit?: number } = {}): Promise<registry.NodesAnswer> {
    const { after, limit, ...rest } = options;
    return this.#core.run(registry.nodes(after ?? 0n, limit ?? 0), rest);
  }

  #keep<T extends Closable>(one: T): T {
    this.#background.add(one);
    return one;
  }

  readonly #forget = (one: Closable): void => {
    this.#background.delete(one);
  };
}
