/**
 * Which endpoint to ask: the configured ones, which of them works, which of them leads.
 *
 * Knows nothing of retries or of connections: a course asks it for the next endpoint and tells it what was learned.
 */

import { isIP } from "node:net";
import type { Receipt } from "./answers.js";
import { InvalidCall } from "./errors.js";

/** Endpoints that are learned from hints, beside the configured ones. */
const HINTED_MAX = 16;

/** Who leads, in which term. */
export interface Leader {
  term: bigint;
  nodeId: bigint;
  address?: string;
}

/** An endpoint as `host:port`. */
export function parse(text: string, secure: boolean): string {
  const parts = /^(?:(\w+):\/\/)?(\[[^\]]+\]|[^:/[\]]+):(\d{1,5})$/.exec(text);
  if (!parts || Number(parts[3]) > 65535) throw new InvalidCall(`endpoint "${text}" is no host:port`);
  const expected = secure ? "https" : "http";
  if (parts[1] !== undefined && parts[1] !== expected) throw new InvalidCall(`endpoint "${text}": ${expected} is expected`);
  return `${parts[2]}:${parts[3]}`;
}

/** Whether what is sent there stays on this machine. */
export function isLoopback(address: string): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** The endpoints of one client. */
export class Endpoints {
  readonly addresses: string[];
  readonly #configured: number;
  #current: number;
  #byNode = new Map<bigint, number>();
  #leader?: Leader;

  constructor(
    addresses: string[],
    readonly followHints: boolean,
    readonly secure: boolean,
  ) {
    if (!Array.isArray(addresses) || addresses.length === 0) throw new InvalidCall("a client needs at least one endpoint");
    this.addresses = addresses.map((address) => parse(address, secure));
    this.#configured = addresses.length;
    // At a random one, so that many clients spread over the cluster.
    this.#current = Math.floor(Math.random() * addresses.length);
  }

  /** The place of an address that the caller named, added if it is new. */
  place(address: string): number {
    return this.#add(parse(address, this.secure));
  }

  /** The next one that isn't in `tried`: the leader's, else the one that worked, else the others in turn. */
  next(wantLeader: boolean, tried: readonly number[]): number | undefined {
    const leader = wantLeader ? this.#leaderPlace() : undefined;
    const count = this.addresses.length;
    const turn = this.addresses.map((_, step) => (this.#current + step) % count);
    return (leader === undefined ? turn : [leader, ...turn]).find((place) => !tried.includes(place));
  }

  /** Learns who is behind an endpoint and who leads, from a receipt that came from there. */
  learn(place: number, receipt: Receipt): void {
    if (this.#byNode.get(receipt.nodeId) !== place) {
      this.#byNode = new Map([...this.#byNode].filter(([, at]) => at !== place));
      this.#byNode.set(receipt.nodeId, place);
    }
    if (receipt.leader !== undefined) {
      this.learnLeader({ term: receipt.term ?? 0n, nodeId: receipt.leader, address: receipt.leaderAddress });
    }
  }

  /** Learns who leads. A node that was cut off tells of an old leader, in an old term. */
  learnLeader(leader: Leader): void {
    if (this.#leader === undefined || this.#leader.term <= leader.term) this.#leader = leader;
  }

  /** It failed: go elsewhere next time, and don't believe that it leads. */
  leave(place: number): void {
    if (this.#current === place) this.#current = (place + 1) % this.addresses.length;
    if (this.#leaderPlace() === place) this.#leader = undefined;
  }

  #leaderPlace(): number | undefined {
    if (this.#leader === undefined) return undefined;
    const { nodeId, address } = this.#leader;
    const known = this.#byNode.get(nodeId) ?? this.addresses.findIndex((one) => one === address);
    if (known >= 0) return known;
    const full = this.addresses.length >= this.#configured + HINTED_MAX;
    return address !== undefined && this.followHints && !full ? this.#add(address) : undefined;
  }

  #add(address: string): number {
    const known = this.addresses.indexOf(address);
    return known >= 0 ? known : this.addresses.push(address) - 1;
  }
}
