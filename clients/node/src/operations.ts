/** Conditions and operations of a transaction, and ranges of keys. */

import { InvalidCall } from "./errors.js";
import { bytes, type Wire } from "./wire.js";

/** How two things must relate. */
export type Relation = "==" | "!=" | ">" | "<";

const RELATIONS = { "==": "RELATION_EQUAL", "!=": "RELATION_NOT_EQUAL", ">": "RELATION_GREATER", "<": "RELATION_LESS" };

/** A condition, made by `compare`. */
export interface Compare {
  readonly wire: Wire;
}

/** An operation, made by `op`. */
export interface Op {
  readonly wire: Wire;
}

/** Conditions. An absent key has revision, count and lease 0, and no value. */
export const compare = {
  /** Compares a key's value, in the order of bytes. */
  value: (key: string, relation: Relation, value: Uint8Array | string): Compare => {
    return { wire: { key, relation: RELATIONS[relation], value: bytes(value) } };
  },
  /** Compares the revision that made a key. */
  createRevision: (key: string, relation: Relation, revision: bigint): Compare => {
    return { wire: { key, relation: RELATIONS[relation], createRevision: String(revision) } };
  },
  /** Compares the revision that wrote a key last. */
  modRevision: (key: string, relation: Relation, revision: bigint): Compare => {
    return { wire: { key, relation: RELATIONS[relation], modRevision: String(revision) } };
  },
  /** The key doesn't exist. */
  absent: (key: string): Compare => compare.createRevision(key, "==", 0n),
};

/** Operations. */
export const op = {
  /** Sets a key. */
  put: (key: string, value: Uint8Array | string, leaseId = 0n): Op => {
    return { wire: { put: { key, value: bytes(value), leaseId: String(leaseId) } } };
  },
  /** Reads a key. */
  get: (key: string): Op => ({ wire: { get: { key } } }),
  /** Removes a key. */
  delete: (key: string): Op => ({ wire: { delete: { key } } }),
  /** Removes every key with a prefix. */
  deletePrefix: (prefix: string): Op => ({ wire: { deleteRange: { range: { prefix } } } }),
};

/** Which keys: those with a prefix, or from `start` up to, not including, `end`. */
export type KeyRange = string | { start?: string; end?: string };

/** A range as a message. */
export function rangeToWire(range: KeyRange): Wire {
  return typeof range === "string" ? { prefix: range } : { interval: { start: range.start ?? "", end: range.end ?? "" } };
}

/** What a compare-and-set expects: one of these. */
export type Expected = { absent: true } | { modRevision: bigint } | { value: Uint8Array | string };

/** An expectation as a message. */
export function expectedToWire(expected: Expected): Wire {
  if ("absent" in expected) return { absent: true };
  if ("modRevision" in expected) return { modRevision: String(expected.modRevision) };
  if ("value" in expected) return { value: bytes(expected.value) };
  throw new InvalidCall("compareAndSet expects absent, modRevision or value");
}
