/** What calls give: answers with their receipts, entries, descriptions. */

import type { Level, Mode } from "./options.js";
import { millis, word, type Wire } from "./wire.js";

/** One write of eventual mode: who took it, in which of its logs, at which place. */
export interface Dot {
  writer: bigint;
  logId: bigint;
  seq: bigint;
}

/** What an answer says about itself. */
export interface Receipt {
  /** The mode that answered. */
  mode: Mode;
  /** The guarantee asked. */
  asked: Level;
  /** The guarantee given: weaker than asked only if `degraded` says why. */
  got: Level;
  /** Why the answer is weaker than asked. Empty if it isn't. */
  degraded: string;
  clusterId: bigint;
  /** The node that answered. */
  nodeId: bigint;
  dataEpoch: bigint;
  /** Strong mode: the revision of the answer, Raft's term, and who leads, if that is known. */
  revision?: bigint;
  term?: bigint;
  leader?: bigint;
  leaderAddress?: string;
  /** Eventual mode: the write; none for an answer that wrote nothing. */
  dot?: Dot;
  /** What the bound on staleness rests on. */
  staleness: string;
  /** Since the leader (strong), or the least recently heard live member (eventual), was heard. */
  contactAgeMs?: number;
  /** Strong mode: entries committed and not applied at this node. */
  applyLag?: bigint;
  /** How many members the node sees, itself included. */
  members: { alive: number; suspect: number; down: number };
  /** For the next request, to any node. Opaque. */
  token: Uint8Array;
  /** What became of the write: applied, not_applied, unknown; unspecified if nothing was written. */
  writeOutcome: string;
  /** What the applied write survives: majority, fsync, interval or memory. */
  durability: string;
  /** How many members hold the write at least, where that was asked. */
  acks: number;
}

/** Reads a receipt. */
export function receiptFromWire(wire: Wire): Receipt {
  const strong = wire.strong;
  const dot = wire.eventual?.dot;
  return {
    mode: word(wire.mode, "MODE_") as Mode,
    asked: word(wire.asked, "LEVEL_") as Level,
    got: word(wire.got, "LEVEL_") as Level,
    degraded: wire.degraded,
    clusterId: BigInt(wire.clusterId),
    nodeId: BigInt(wire.nodeId),
    dataEpoch: BigInt(wire.dataEpoch),
    revision: strong ? BigInt(strong.revision) : undefined,
    term: strong ? BigInt(strong.term) : undefined,
    leader: strong && strong.leaderId !== "0" ? BigInt(strong.leaderId) : undefined,
    leaderAddress: strong?.leaderAddress || undefined,
    dot: dot ? dotFromWire(dot) : undefined,
    staleness: word(wire.staleness?.basis ?? "", "STALENESS_BASIS_"),
    contactAgeMs: millis(wire.staleness?.contactAge),
    applyLag: wire.staleness?._applyLag ? BigInt(wire.staleness.applyLag) : undefined,
    members: { alive: wire.members?.alive ?? 0, suspect: wire.members?.suspect ?? 0, down: wire.members?.down ?? 0 },
    token: wire.token,
    writeOutcome: word(wire.writeOutcome, "WRITE_OUTCOME_"),
    durability: word(wire.durability, "DURABILITY_"),
    acks: wire.acks,
  };
}

function dotFromWire(wire: Wire): Dot {
  return { writer: BigInt(wire.writer), logId: BigInt(wire.logId), seq: BigInt(wire.seq) };
}

/** Which write an entry is. */
export interface Version {
  /** Strong mode: the revision that made the key, the one that wrote this value (a fencing token), writes since it was made. */
  createRevision: bigint;
  modRevision: bigint;
  count: bigint;
  /** Eventual mode: the write, and its stored stamp. */
  dot?: Dot;
  stamp: bigint;
  /** Eventual mode: sent back with a put, it says which values the put replaces. Opaque. */
  context: Uint8Array;
}

/** Reads a version. */
export function versionFromWire(wire: Wire): Version {
  const { strong, eventual } = wire ?? {};
  return {
    createRevision: BigInt(strong?.createRevision ?? 0),
    modRevision: BigInt(strong?.modRevision ?? 0),
    count: BigInt(strong?.count ?? 0),
    dot: eventual?.dot ? dotFromWire(eventual.dot) : undefined,
    stamp: BigInt(eventual?.stamp ?? 0),
    context: eventual?.context ?? new Uint8Array(),
  };
}

/** A live key. */
export interface Entry {
  key: string;
  value: Buffer;
  version: Version;
  /** The node that took the write from its client. */
  writer: bigint;
  /** The lease that it lives by; 0 for none. */
  leaseId: bigint;
  /** Eventual mode: the other concurrent values, of a key whose policy keeps them. */
  siblings: Buffer[];
}

/** Reads an entry; undefined if there is none. */
export function entryFromWire(wire: Wire): Entry | undefined {
  if (!wire) return undefined;
  return {
    key: wire.key,
    value: wire.value,
    version: versionFromWire(wire.version),
    writer: BigInt(wire.writer),
    leaseId: BigInt(wire.leaseId),
    siblings: wire.siblings.map((sibling: Wire) => sibling.value),
  };
}

/** What every answer has. */
export interface Answer {
  receipt: Receipt;
}

/** The key is set. */
export interface PutAnswer extends Answer {
  version: Version;
}

/** What the key holds. An absent key is an answer. */
export interface GetAnswer extends Answer {
  entry?: Entry;
  /** Its value, if it exists. */
  value?: Buffer;
}

/** The key is absent now. */
export interface DeleteAnswer extends Answer {
  /** The entry that was removed, if there was one. */
  previous?: Entry;
}

/** One page of a listing. */
export interface ListAnswer extends Answer {
  entries: Entry[];
  /** Sent back, it gives the next page. Empty on the last. */
  nextPageToken: Uint8Array;
}

/** The compare was made. A lost one is an answer. */
export interface CompareAnswer extends Answer {
  succeeded: boolean;
  /** The key's entry now. */
  entry?: Entry;
}

/** What an operation of a transaction did. */
export type OperationResult =
  | { kind: "put"; version: Version }
  | { kind: "get" | "delete" | "compareAndSet"; entry?: Entry }
  | { kind: "deleteRange"; count: bigint };

/** The transaction was carried out. */
export interface TxnAnswer extends Answer {
  /** Whether the compares held, and so `success` was carried out. */
  succeeded: boolean;
  /** One an operation of the list that was carried out, in order. */
  results: OperationResult[];
}

/** Reads a result. */
export function resultFromWire(wire: Wire): OperationResult {
  switch (wire.result) {
    case "put":
      return { kind: "put", version: versionFromWire(wire.put.version) };
    case "get":
      return { kind: "get", entry: entryFromWire(wire.get.entry) };
    case "delete":
      return { kind: "delete", entry: entryFromWire(wire.delete.previous) };
    case "deleteRange":
      return { kind: "deleteRange", count: BigInt(wire.deleteRange.count) };
    default:
      return { kind: "compareAndSet", entry: entryFromWire(wire.compareAndSet?.entry) };
  }
}

/** The lease is granted. */
export interface LeaseGranted extends Answer {
  leaseId: bigint;
  ttlMs: number;
}

/** What became of a keep-alive, or of a sign of life. */
export interface KeptAnswer extends Answer {
  /** How long it lives without another; none if there is no such lease, or instance, any more. */
  ttlMs?: number;
}

/** A node as another node believes it. */
export interface Member {
  nodeId: bigint;
  state: "alive" | "suspect" | "down" | "left" | "unspecified";
  peerAddress: string;
  clientAddress: string;
  /** Strong mode: whether it votes. */
  voter: boolean;
  /** Since it was last heard directly. */
  contactAgeMs?: number;
}

/** Reads a member. */
export function memberFromWire(wire: Wire): Member {
  return {
    nodeId: BigInt(wire.nodeId),
    state: word(wire.state, "MEMBER_STATE_") as Member["state"],
    peerAddress: wire.peerAddress,
    clientAddress: wire.clientAddress,
    voter: wire.voter,
    contactAgeMs: millis(wire.contactAge),
  };
}

/** What a node is. */
export interface Description extends Answer {
  modes: Mode[];
  clusterName: string;
  /** starting, serving or damaged. */
  health: string;
  members: Member[];
  /** Live keys. */
  keys: bigint;
  /** The program's. */
  version: string;
  /** All of it, as on the wire: progress, limits, capabilities, alarms. */
  message: unknown;
}
