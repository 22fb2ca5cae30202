/** Real nodes as child processes, and a network between them that can be cut. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { createSocket, type Socket as Udp } from "node:dgram";
import { once } from "node:events";
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { Client, QuorumorError, type ClientOptions, type Mode } from "../src/index.js";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BINARY = process.env["QUORUMOR_BIN"] ?? join(ROOT, "target", "debug", "quorumor");
export const PATIENCE_MS = 60_000;

/** Asks again until there is an answer that counts. An error of the client counts as none. */
export async function eventually<T>(what: string, ask: () => Promise<T> | T): Promise<NonNullable<T>> {
  const until = performance.now() + PATIENCE_MS;
  let last: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      if (!(error instanceof QuorumorError)) throw error;
      last = error;
    }
    assert(performance.now() < until, `after ${PATIENCE_MS} ms it isn't true that ${what}; last: ${last}`);
    await pause(10);
  }
}

/** Below the ports that the system gives to outgoing connections: what is free stays free until its node takes it. */
let nextPort = 26_000 + (process.pid % 20) * 200;

/** A TCP server and a UDP socket on one free port. */
async function bothSockets(): Promise<{ tcp: Server; udp: Udp; port: number }> {
  for (;;) {
    const port = nextPort++;
    const tcp = createServer();
    const udp = createSocket("udp4");
    try {
      tcp.listen(port, "127.0.0.1");
      await once(tcp, "listening");
      udp.bind(port, "127.0.0.1");
      await once(udp, "listening");
      return { tcp, udp, port };
    } catch {
      tcp.close();
      udp.close();
    }
  }
}

async function freePort(): Promise<number> {
  const { tcp, udp, port } = await bothSockets();
  tcp.close();
  udp.close();
  return port;
}

/** One directed link: passes on what comes, until it is cut. */
class Link {
  cut = false;
  readonly #open = new Set<Socket>();
  readonly #returns = new Map<number, Udp>();

  private constructor(
    readonly target: number,
    readonly tcp: Server,
    readonly udp: Udp,
    readonly port: number,
  ) {
    tcp.on("connection", (inner) => this.#connection(inner));
    udp.on("message", (data, asker) => {
      if (this.cut) return;
      let back = this.#returns.get(asker.port);
      if (back === undefined) {
        back = createSocket("udp4");
        back.on("message", (answer) => this.cut || udp.send(answer, asker.port, asker.address));
        back.on("error", () => {});
        this.#returns.set(asker.port, back);
      }
      back.send(data, target, "127.0.0.1");
    });
  }

  static async to(target: number): Promise<Link> {
    const { tcp, udp, port } = await bothSockets();
    return new Link(target, tcp, udp, port);
  }

  /** From now on nothing passes, and open connections break. */
  sever(): void {
    this.cut = true;
    for (const socket of this.#open) socket.destroy();
  }

  close(): void {
    this.sever();
    this.tcp.close();
    this.udp.close();
    for (const back of this.#returns.values()) back.close();
  }

  #connection(inner: Socket): void {
    if (this.cut) {
      inner.destroy();
      return;
    }
    const outer = connect(this.target, "127.0.0.1");
    for (const [one, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      this.#open.add(one);
      one.pipe(other);
      one.on("error", () => {});
      one.on("close", () => {
        this.#open.delete(one);
        other.destroy();
      });
    }
  }
}

/** Nodes of one mode, from 1 up. */
export class Cluster {
  readonly endpoints = new Map<number, string>();
  readonly #folder = mkdtempSync(join(tmpdir(), "quorumor-test-"));
  readonly #peers = new Map<number, number>();
  readonly #links: { here: number; there: number; link: Link }[] = [];
  readonly #processes = new Map<number, ChildProcess>();

  private constructor(
    readonly mode: Mode,
    readonly ids: number[],
  ) {}

  /** Starts so many nodes and waits until each serves. */
  static async start(mode: Mode, size = 3, cuttable = false): Promise<Cluster> {
    const cluster = new Cluster(
      mode,
      Array.from({ length: size }, (_, at) => at + 1),
    );
    for (const node of cluster.ids) cluster.#peers.set(node, await freePort());
    for (const here of cuttable ? cluster.ids : []) {
      for (const there of cluster.ids.filter((node) => node !== here)) {
        cluster.#links.push({ here, there, link: await Link.to(cluster.#peers.get(there)!) });
      }
    }
    for (const node of cluster.ids) await cluster.startNode(node);
    for (const node of cluster.ids) {
      await cluster.with([node], { timeoutMs: 1_000 }, async (client) => {
        await eventually(`node ${node} serves`, async () => {
          if (mode === "strong") return (await client.get("no such key")).receipt;
          return (await client.describe()).receipt.members.alive === size;
        });
      });
    }
    return cluster;
  }

  /** Ends every node. */
  async stop(): Promise<void> {
    for (const node of [...this.#processes.keys()]) await this.kill(node);
    for (const { link } of this.#links) link.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async startNode(node: number): Promise<void> {
    const child = spawn(BINARY, this.#arguments(node), { stdio: ["pipe", "pipe", "pipe"] });
    this.#processes.set(node, child);
    const log = join(this.#folder, `node-${node}.log`);
    child.stderr.pipe(createWriteStream(log, { flags: "a" }));
    const ended = once(child, "exit").then(() => {
      throw new Error(`node ${node} didn't start: ${readFileSync(log, "utf8").slice(-4000)}`);
    });
    ended.catch(() => {});
    const [line] = (await Promise.race([once(createInterface(child.stdout), "line"), ended])) as [string];
    this.endpoints.set(node, (JSON.parse(line) as { endpoint: string }).endpoint.replace("http://", ""));
  }

  /** kill -9. */
  async kill(node: number): Promise<void> {
    const child = this.#processes.get(node)!;
    this.#processes.delete(node);
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  pause(node: number): void {
    this.#processes.get(node)!.kill("SIGSTOP");
  }

  resume(node: number): void {
    this.#processes.get(node)!.kill("SIGCONT");
  }

  /** Parts a node from all others. */
  cutOff(node: number): void {
    for (const { here, there, link } of this.#links) if (here === node || there === node) link.sever();
  }

  /** Joins all again. */
  heal(): void {
    for (const { link } of this.#links) link.cut = false;
  }

  /** A client of some nodes; of all if none is named. */
  client(nodes: number[] = this.ids, options: Partial<ClientOptions> = {}): Client {
    return new Client({ endpoints: nodes.map((node) => this.endpoints.get(node)!), mode: this.mode, ...options });
  }

  /** Lends a client. */
  async with<T>(nodes: number[], options: Partial<ClientOptions>, use: (client: Client) => Promise<T>): Promise<T> {
    const client = this.client(nodes, options);
    try {
      return await use(client);
    } finally {
      await client.close();
    }
  }

  /** The leader's id, in strong mode. */
  async leader(): Promise<number> {
    return this.with(this.ids, {}, async (client) => {
      return Number(await eventually("a leader is known", async () => (await client.get("no such key")).receipt.leader));
    });
  }

  /** Raises the epoch of the data, as a migration does at its end. That is no call of the client. */
  async advanceEpoch(): Promise<void> {
    const includeDirs = [join(ROOT, "proto")];
    const loaded = loadPackageDefinition(loadSync("quorumor/v1/cluster.proto", { includeDirs }));
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    const { ClusterService } = (loaded as any).quorumor.v1;
    const service = new ClusterService(this.endpoints.get(1), credentials.createInsecure());
    await new Promise<void>((resolve, reject) => {
      const request = { header: { mode: `MODE_${this.mode.toUpperCase()}` } };
      service.AdvanceEpoch(request, (error: Error | null) => (error ? reject(error) : resolve()));
    });
    service.close();
  }

  #arguments(node: number): string[] {
    const mine = this.#links.filter(({ here }) => here === node);
    const members = [...this.#peers].map(([peer, port]) => `${peer}=127.0.0.1:${port}`).join(",");
    const seed = mine.find(({ there }) => there === 1)?.link.port ?? this.#peers.get(1);
    return [
      "serve",
      "--cluster=tests",
      "--output=json",
      "--exit-on-stdin-close",
      "--listen=127.0.0.1:0",
      `--mode=${this.mode}`,
      `--node-id=${node}`,
      `--peer-listen=127.0.0.1:${this.#peers.get(node)}`,
      `--data-dir=${join(this.#folder, `node-${node}`)}`,
      ...(this.mode === "strong" ? [`--initial-members=${members}`] : []),
      ...(this.mode === "eventual" && node > 1 ? [`--seeds=127.0.0.1:${seed}`] : []),
      ...mine.map(({ there, link }) => `--peer-override=${there}=127.0.0.1:${link.port}`),
    ];
  }
}

/** The error that a promise ends with. */
export async function failure<E extends QuorumorError>(promise: Promise<unknown>, kind: abstract new (...args: never[]) => E): Promise<E> {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof kind, `not the error that was expected: ${error}`);
    return error;
  }
  return assert.fail("it succeeded");
}
