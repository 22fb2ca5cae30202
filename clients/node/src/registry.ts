/** Services, their instances and the nodes: what is registered and how it stands. */

import {
  memberFromWire,
  versionFromWire,
  type Answer,
  type KeptAnswer,
  type Member,
  type Version,
} from "./answers.js";
import { receiptOf, type Call } from "./core.js";
import { fromStatus } from "./errors.js";
import { duration, millis, word, type Wire } from "./wire.js";

/** How an instance is. */
export type Health = "passing" | "warning" | "critical";

/** How the node that took a registration checks the instance: one of the four kinds. */
export interface HealthCheck {
  /** Names it within the instance. */
  checkId: string;
  /** The instance itself tells its health, at least each interval. A registration does, by its signs of life and by `tell`. */
  ttl?: Record<string, never>;
  /** A TCP connection is opened, to the instance's own address if none is named. */
  tcp?: { address?: string };
  /** An HTTP request is sent: 2xx is passing, 429 is warning. */
  http?: { url: string; method?: string };
  /** The gRPC health service is asked. */
  grpc?: { address?: string; service?: string };
  /** From one check to the next; 10 s by default. */
  intervalMs?: number;
  /** How long a check may take; 5 s by default. */
  timeoutMs?: number;
  /** Failures in a row that make it critical, and successes that make it passing again; 1 by default. */
  failures?: number;
  successes?: number;
}

/** One instance of a service, as it registers. */
export interface Instance {
  /** 1 to 63 lower-case letters, digits and `-`. */
  service: string;
  /** Names the instance within the service. */
  instanceId: string;
  /** An IP address or a host name. */
  address: string;
  port?: number;
  tags?: string[];
  metadata?: Record<string, string>;
  /** How much of the load it should get beside others; 0 counts as 1. */
  weight?: number;
  zone?: string;
  /** With checks, the node that took the registration keeps the instance alive. */
  checks?: HealthCheck[];
  /** How long its checks hold it critical before it is taken out; none for never. */
  deregisterCriticalAfterMs?: number;
  /** The node that took the registration; set by it. */
  nodeId?: bigint;
}

/** An instance and how it stands. */
export interface ServiceInstance {
  instance: Instance;
  /** The worst of its checks; critical while it flaps. */
  health: Health;
  /** Since when, by the clock of the node that says so. */
  since: Date;
  flapping: boolean;
  /** Each check: how it stands, and what the last one said. */
  checks: { checkId: string; health: Health; output: string }[];
  leaseId: bigint;
  version: Version;
}

/** The instance is registered. */
export interface RegisterAnswer extends Answer {
  /** As it stands now at the node that answered; none if that node doesn't show it yet. */
  instance?: ServiceInstance;
  /** How long it stays without a keep-alive. */
  ttlMs: number;
  /** Whether there was none of this id before. */
  created: boolean;
}

/** The instance is out. */
export interface DeregisterAnswer extends Answer {
  /** Whether there was one. */
  found: boolean;
}

/** What a discovery asks beside the service. */
export interface DiscoverQuery {
  /** What tags and metadata must be: `web`, `version=2`, `!canary`, `a && (b || !c)`. */
  filter?: string;
  /** Those that may be used (passing and warning), only passing ones, or any. */
  health?: "usable" | "passing" | "any";
  /** The caller's zone. */
  zone?: string;
  /** The zone comes first; only the zone unless nothing there is left; only the zone. */
  zoneRule?: "first" | "prefer" | "require";
  limit?: number;
  pageToken?: Uint8Array;
}

/** The instances of a service. */
export interface DiscoverAnswer extends Answer {
  instances: ServiceInstance[];
  /** Sent back, it gives the next page. Empty on the last. */
  nextPageToken: Uint8Array;
  /** Whether the service has any instance at all, whatever the filters leave. */
  serviceKnown: boolean;
  /** Whether the caller's zone was left for others, since it had none. */
  zoneFailedOver: boolean;
}

/** The services, by name. */
export interface ServicesAnswer extends Answer {
  services: { service: string; passing: number; warning: number; critical: number; tags: string[] }[];
  /** Whether there are more above the last one. */
  more: boolean;
}

/** The nodes, by id: what is believed of each, since when, and who says so. */
export interface NodesAnswer extends Answer {
  nodes: { member: Member; since: Date; saidBy: bigint }[];
  /** Whether there are more above the last one. */
  more: boolean;
}

/** One instance's change: what it is now; absent if there is none that the filters take. */
export interface ServiceChange {
  service: string;
  instanceId: string;
  present?: ServiceInstance;
}

const HEALTH = { passing: "INSTANCE_HEALTH_PASSING", warning: "INSTANCE_HEALTH_WARNING", critical: "INSTANCE_HEALTH_CRITICAL" };
/** Health filters on the wire. */
export const FILTERS = { usable: "HEALTH_FILTER_UNSPECIFIED", passing: "HEALTH_FILTER_PASSING", any: "HEALTH_FILTER_ANY" };
const ZONE_RULES = { first: "ZONE_RULE_UNSPECIFIED", prefer: "ZONE_RULE_PREFER", require: "ZONE_RULE_REQUIRE" };

/** From one check to the next where a check doesn't say. */
const CHECK_INTERVAL_MS = 10_000;

/** Milliseconds within which an instance must tell its health, by the most impatient of its TTL checks; undefined without one. */
export function awaitedMs(instance: Instance): number | undefined {
  const told = (instance.checks ?? []).filter(({ ttl }) => ttl !== undefined).map(({ intervalMs }) => intervalMs ?? CHECK_INTERVAL_MS);
  return told.length > 0 ? Math.min(...told) : undefined;
}

/** Reasons for which the registry would refuse the same registration again, whatever becomes of the cluster. */
export const REFUSALS = [
  "INVALID_ARGUMENT",
  "TOO_LARGE",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "MODE_NOT_SERVED",
  "GUARANTEE_UNAVAILABLE",
  "LEASE_NOT_FOUND",
];

function healthToWire(health: Health | undefined): string {
  return health ? HEALTH[health] : "INSTANCE_HEALTH_UNSPECIFIED";
}

/** Whatever isn't known mustn't be used. */
function healthFromWire(name: string): Health {
  const told = word(name, "INSTANCE_HEALTH_");
  return told === "passing" || told === "warning" ? told : "critical";
}

function time(wire: Wire): Date {
  return new Date(millis(wire) ?? 0);
}

function instanceToWire(instance: Instance): Wire {
  const { deregisterCriticalAfterMs: after, nodeId: _, checks, ...rest } = instance;
  const timed = (check: HealthCheck) => {
    const { intervalMs, timeoutMs, ...kind } = check;
    return {
      ...kind,
      interval: intervalMs === undefined ? undefined : duration(intervalMs),
      timeout: timeoutMs === undefined ? undefined : duration(timeoutMs),
    };
  };
  return {
    ...rest,
    checks: (checks ?? []).map(timed),
    deregisterCriticalAfter: after === undefined ? undefined : duration(after),
  };
}

function checkFromWire(wire: Wire): HealthCheck {
  const check = { checkId: wire.checkId, [wire.kind]: wire[wire.kind], failures: wire.failures, successes: wire.successes };
  return { ...check, intervalMs: millis(wire.interval), timeoutMs: millis(wire.timeout) };
}

/** Reads an instance. */
export function instanceFromWire(wire: Wire): ServiceInstance {
  const { instance, status } = wire;
  const { service, instanceId, address, port, tags, metadata, weight, zone, checks, nodeId, deregisterCriticalAfter } = instance;
  return {
    instance: {
      service,
      instanceId,
      address,
      port,
      tags,
      metadata,
      weight,
      zone,
      checks: checks.map(checkFromWire),
      nodeId: BigInt(nodeId),
      deregisterCriticalAfterMs: millis(deregisterCriticalAfter),
    },
    health: healthFromWire(status?.health ?? ""),
    since: time(status?.sinceTime),
    flapping: status?.flapping ?? false,
    checks: (status?.checks ?? []).map((check: Wire) => {
      return { checkId: check.checkId, health: healthFromWire(check.health), output: check.output };
    }),
    leaseId: BigInt(wire.leaseId),
    version: versionFromWire(wire.version),
  };
}

/** Reads a change. */
export function changeFromWire(wire: Wire): ServiceChange {
  if (!wire.present) return { service: wire.gone.service, instanceId: wire.gone.instanceId };
  const present = instanceFromWire(wire.present);
  return { service: present.instance.service, instanceId: present.instance.instanceId, present };
}

/** Registers an instance, or replaces its registration: done twice it is the same. */
export function register(instance: Instance, ttlMs?: number, health?: Health, leaseId = 0n): Call<RegisterAnswer> {
  const ttl = ttlMs === undefined ? undefined : duration(ttlMs);
  return {
    service: "RegistryService",
    method: "Register",
    kind: "harmless",
    request: { instance: instanceToWire(instance), ttl, health: healthToWire(health), leaseId: String(leaseId) },
    read: (wire) => ({
      receipt: receiptOf(wire),
      instance: wire.instance ? instanceFromWire(wire.instance) : undefined,
      ttlMs: millis(wire.ttl) ?? 0,
      created: wire.created,
    }),
  };
}

/** Gives a sign of life of one instance. */
export function beat(service: string, instanceId: string, health?: Health, output = ""): Call<KeptAnswer> {
  return {
    service: "RegistryService",
    method: "KeepAlive",
    kind: "harmless",
    request: { beats: [{ name: { service, instanceId }, health: healthToWire(health), output }] },
    read: (wire) => {
      const result = wire.results[0];
      const status: Buffer = wire.status.length > 0 ? wire.status : (result?.status ?? Buffer.alloc(0));
      if (status.length > 0) throw fromStatus(status, "the node");
      return { receipt: receiptOf(wire), ttlMs: millis(result?.ttl) };
    },
  };
}

/** Takes an instance out. */
export function deregister(service: string, instanceId: string): Call<DeregisterAnswer> {
  return {
    service: "RegistryService",
    method: "Deregister",
    kind: "harmless",
    request: { name: { service, instanceId } },
    read: (wire) => ({ receipt: receiptOf(wire), found: wire.found }),
  };
}

/** Lists the instances of a service. */
export function discover(service: string, query: DiscoverQuery): Call<DiscoverAnswer> {
  const { filter, health, zone, zoneRule, limit, pageToken } = query;
  return {
    service: "RegistryService",
    method: "Discover",
    kind: "read",
    request: { service, filter, zone, limit, pageToken, health: FILTERS[health ?? "usable"], zoneRule: ZONE_RULES[zoneRule ?? "first"] },
    read: (wire) => ({
      receipt: receiptOf(wire),
      instances: wire.instances.map(instanceFromWire),
      nextPageToken: wire.nextPageToken,
      serviceKnown: wire.serviceKnown,
      zoneFailedOver: wire.zoneFailedOver,
    }),
  };
}

/** Lists the services. */
export function services(after: string, limit: number): Call<ServicesAnswer> {
  return {
    service: "RegistryService",
    method: "ListServices",
    kind: "read",
    request: { afterService: after, limit },
    read: (wire) => ({ receipt: receiptOf(wire), services: wire.services, more: wire.more }),
  };
}

/** Lists the nodes as the answering one believes them. */
export function nodes(after: bigint, limit: number): Call<NodesAnswer> {
  const node = (wire: Wire) => {
    return { member: memberFromWire(wire.member), since: time(wire.sinceTime), saidBy: BigInt(wire.saidByNodeId) };
  };
  return {
    service: "RegistryService",
    method: "ListNodes",
    kind: "read",
    request: { afterNodeId: String(after), limit },
    read: (wire) => ({ receipt: receiptOf(wire), nodes: wire.nodes.map(node), more: wire.more }),
  };
}
