/** What a client and each of its calls can ask for. */

import type { ChannelCredentials } from "@grpc/grpc-js";

/** A consistency mode. */
export type Mode = "strong" | "eventual";
/** How fresh a read must be. */
export type Level = "linearizable" | "local" | "bounded" | "sampled";
/** Whether a write was certainly not applied, or may have been. */
export type Certainty = "not_applied" | "unknown";

const MODES = ["strong", "eventual"];
const LEVELS = ["linearizable", "local", "bounded", "sampled"];

/** What one call can ask for. What is left out is as the client has it. */
export interface CallOptions {
  /** The mode; none for the node's first. */
  mode?: Mode;
  /** How fresh a read must be; none for the best that the mode gives. */
  level?: Level;
  /** How long the whole call may take, retries included. It is the deadline that nodes see. */
  timeoutMs?: number;
  /** A token to send instead of the session's; an empty one sends none. */
  token?: Uint8Array;
  /** Whether a weaker answer will do; the receipt then says so. */
  allowDegraded?: boolean;
  /** Eventual mode: how many members must hold a write before its answer, the one that takes it included. */
  acks?: number;
  /** Level bounded: how many committed entries may be missing. */
  maxLag?: bigint;
  /** Level bounded: how old the leader's word may be. */
  maxAgeMs?: number;
  /** Level sampled: how many other members are asked. */
  members?: number;
  /** Ask this endpoint and no other. */
  endpoint?: string;
  /** The caller's name for the request, for logs. */
  requestId?: string;
}

/**
 * Options of a call that nobody waits for. It sends no token: what the session has seen may be gone for good, and what is kept alive
 * would go with it.
 */
export function inBackground(options: CallOptions, timeoutMs: number): CallOptions {
  return { ...options, token: new Uint8Array(), timeoutMs };
}

/** How often and how fast a call is tried again, always within its deadline. */
export interface RetryPolicy {
  /** Tries in all, the first included. 1 means no retries. */
  attemptsMax: number;
  /** The first pause. Each next one doubles, with jitter. */
  delayMinMs: number;
  /** The longest pause, before jitter. What a node asks for (RetryInfo) may be longer. */
  delayMaxMs: number;
}

/** How a client is made. */
export interface ClientOptions {
  /** `host:port`, at least one. */
  endpoints: string[];
  /** The mode of every call; none for each node's first. */
  mode?: Mode;
  /** How fresh reads must be; none for the best that the mode gives. */
  level?: Level;
  /** How long a call may take, retries included. 5 s by default. */
  timeoutMs?: number;
  /** Number writes in a session of the cluster, so that one of unknown outcome is sent again and applied once. Strong mode only. */
  exactlyOnce?: boolean;
  retries?: RetryPolicy;
  /** Whether the leader is followed to an address that isn't among the endpoints. By default it is. */
  followHints?: boolean;
  /** How long a broken watch tries to resume before it gives up. A minute by default. */
  watchPatienceMs?: number;
  /** TLS; plain connections by default. */
  credentials?: ChannelCredentials;
  /** The bearer token that says who calls. It leaves over a plain connection only to the loopback. */
  authToken?: string;
  /** Whether the bearer token may leave over plain connections to any address. */
  plainToken?: boolean;
}

/** Why words make no sense; undefined if they do. */
export function badWord(options: { mode?: Mode; level?: Level }): string | undefined {
  if (options.mode !== undefined && !MODES.includes(options.mode)) return `mode ${options.mode} is none of ${MODES.join(", ")}`;
  if (options.level !== undefined && !LEVELS.includes(options.level)) {
    return `level ${options.level} is none of ${LEVELS.join(", ")}`;
  }
  return undefined;
}
