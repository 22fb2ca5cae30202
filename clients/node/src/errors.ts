/** What a call can fail with, and whether its write happened. */

import { status as Code, type Metadata, type ServiceError } from "@grpc/grpc-js";
import { receiptFromWire, type Receipt } from "./answers.js";
import type { Certainty } from "./options.js";
import { decode, millis } from "./wire.js";

const DOMAIN = "quorumor.dev";

/** Why a call failed. For a read the certainty says nothing. */
export class QuorumorError extends Error {
  /** When the same request may succeed; none if a retry can't help. */
  retryAfterMs?: number;
  /** The receipt, where a node gave one. */
  receipt?: Receipt;

  constructor(
    message: string,
    /** The stable reason, for programs. */
    readonly reason: string,
    /** Whether the write was certainly not applied, or may have been. */
    public certainty: Certainty,
    /** The endpoint that was asked last; none if none was. */
    public endpoint?: string,
  ) {
    super(message);
    this.name = new.target.name;
  }

  /** Whether the write may have happened. */
  get outcomeUnknown(): boolean {
    return this.certainty === "unknown";
  }
}

/** A node answered with an error, and said what became of the write. */
export class NodeError extends QuorumorError {
  /** INVALID_ARGUMENT: which field of the request. */
  field?: string;

  constructor(
    message: string,
    reason: string,
    endpoint: string,
    /** The gRPC code. */
    readonly code: Code,
    /** What comes with the reason, by name. */
    readonly metadata: Readonly<Record<string, string>>,
  ) {
    super(message, reason, metadata["certainty"] === "not_applied" ? "not_applied" : "unknown", endpoint);
  }

  /** The leader's node id, where it was named. */
  get leader(): bigint | undefined {
    const named = this.metadata["leader"];
    return named === undefined ? undefined : BigInt(named);
  }

  /** The leader's client address, where it was named. */
  get leaderAddress(): string | undefined {
    return this.metadata["leader_address"];
  }

  /** The best level available, where a guarantee was refused. */
  get bestAvailable(): string | undefined {
    return this.metadata["best_available"];
  }
}

/** No connection could be made. Nothing was sent. */
export class Unreachable extends QuorumorError {
  constructor(message: string, endpoint?: string) {
    super(message, "UNREACHABLE", "not_applied", endpoint);
  }
}

/** The connection broke while the request was under way. */
export class ContactLost extends QuorumorError {
  constructor(message: string, endpoint?: string) {
    super(message, "CONTACT_LOST", "unknown", endpoint);
  }
}

/** The caller's time was up before an answer came. */
export class DeadlineExceeded extends QuorumorError {
  constructor(message: string, endpoint?: string) {
    super(message, "DEADLINE_EXCEEDED", "unknown", endpoint);
  }
}

/** Whoever answered is no node of ours, or speaks another version. */
export class BadAnswer extends QuorumorError {
  constructor(message: string, endpoint?: string) {
    super(message, "BAD_ANSWER", "unknown", endpoint);
  }
}

/** The call or the configuration makes no sense. Nothing was sent. */
export class InvalidCall extends QuorumorError {
  constructor(message: string) {
    super(message, "INVALID_ARGUMENT", "not_applied");
  }
}

/** Whether the session token is of data that were replaced, of another cluster or of none: it is refused for good. */
export function refusesToken(error: QuorumorError): boolean {
  const ofToken = error instanceof NodeError && error.field === "token";
  return error.reason === "EPOCH_CHANGED" || (error.reason === "INVALID_ARGUMENT" && ofToken);
}

/** Reads a failed call. What no node explained is unknown. */
export function fromService(endpoint: string, error: unknown): QuorumorError {
  if (error instanceof QuorumorError) {
    error.endpoint ??= endpoint;
    return error;
  }
  const { code, details, metadata } = error as Partial<ServiceError> & { metadata?: Metadata };
  const told = metadata?.get("grpc-status-details-bin")[0];
  if (told !== undefined) {
    const node = fromStatus(told as Buffer, endpoint);
    if (node instanceof NodeError) return node;
  }
  const why = details ?? (error instanceof Error ? error.message : String(error));
  switch (code) {
    case Code.DEADLINE_EXCEEDED:
      return new DeadlineExceeded(`no answer from ${endpoint} before the deadline`, endpoint);
    case Code.UNAVAILABLE:
    case Code.CANCELLED:
      return new ContactLost(`contact with ${endpoint} was lost: ${why}`, endpoint);
    default:
      return new BadAnswer(`${endpoint} answered as no quorumor node does: ${why}`, endpoint);
  }
}

/** Reads an encoded google.rpc.Status, of a whole call or of a part of an answer. */
export function fromStatus(bytes: Uint8Array, endpoint: string): QuorumorError {
  const status = decode("google.rpc.Status", bytes);
  let told: QuorumorError = new BadAnswer(`${endpoint} gave no reason: ${status.message}`, endpoint);
  let retryAfterMs: number | undefined;
  let receipt: Receipt | undefined;
  let field: string | undefined;
  for (const { typeUrl, value } of status.details) {
    const name = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
    if (name === "google.rpc.ErrorInfo") {
      const info = decode(name, value);
      if (info.domain === DOMAIN) told = new NodeError(status.message, info.reason, endpoint, status.code, info.metadata);
    } else if (name === "google.rpc.BadRequest") {
      field = decode(name, value).fieldViolations[0]?.field;
    } else if (name === "google.rpc.RetryInfo") {
      retryAfterMs = millis(decode(name, value).retryDelay);
    } else if (name === "quorumor.v1.Receipt") {
      receipt = receiptFromWire(decode(name, value));
    }
  }
  if (told instanceof NodeError) told.field = field;
  return Object.assign(told, { retryAfterMs, receipt });
}
