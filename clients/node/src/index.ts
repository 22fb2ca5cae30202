/** A client of Quorumor: shared state and services of a cluster, in strong or in eventual mode. */

export type {
  Answer,
  CompareAnswer,
  DeleteAnswer,
  Description,
  Dot,
  Entry,
  GetAnswer,
  KeptAnswer,
  LeaseGranted,
  ListAnswer,
  Member,
  OperationResult,
  PutAnswer,
  Receipt,
  TxnAnswer,
  Version,
} from "./answers.js";
export { Client } from "./client.js";
export { BadAnswer, ContactLost, DeadlineExceeded, InvalidCall, NodeError, QuorumorError, Unreachable } from "./errors.js";
export { Lease, Registration, type LostReason, type RegistrationState } from "./keeping.js";
export { compare, op, type Compare, type Expected, type KeyRange, type Op, type Relation } from "./operations.js";
export type { CallOptions, Certainty, ClientOptions, Level, Mode, RetryPolicy } from "./options.js";
export type {
  DeregisterAnswer,
  DiscoverAnswer,
  DiscoverQuery,
  Health,
  HealthCheck,
  Instance,
  NodesAnswer,
  RegisterAnswer,
  ServiceChange,
  ServiceInstance,
  ServicesAnswer,
} from "./registry.js";
export { Watch, type WatchEvent, type WatchStep } from "./watch.js";
