/** Session tokens that go stale: the caller is told once, and what is kept alive lives on. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Cluster, eventually, failure } from "./cluster.js";
import { NodeError, type Client, type Entry, type Watch, type WatchEvent } from "../src/index.js";
import { Session } from "../src/session.js";
import { decode, encode, EVENTUAL, STRONG } from "../src/tokens.js";

const TTL_MS = 2_000;

const ofEpoch = (epoch: bigint, revision = 5n) => encode({ mode: STRONG, cluster: 7n, epoch, position: new Map([["0/0", revision]]) });

/** What a session has that saw a write which was lost with its node: no node will ever have it. */
function loseADot(client: Client): void {
  const seen = decode(client.sessionToken()) ?? assert.fail("a token");
  assert.equal(seen.mode, EVENTUAL);
  client.useToken(encode({ ...seen, position: new Map([...seen.position, ["99/7", 1n]]) }), "eventual");
}

/** Waits until all were confirmed to live so much longer than now. */
async function keptFor(ms: number, ...kept: { until: number }[]): Promise<void> {
  const until = Math.max(...kept.map((one) => one.until)) + ms;
  await eventually("all are kept", () => kept.every((one) => one.until > until));
}

/** Follows a watch to a step of this kind. */
async function step(watch: Watch<Entry, WatchEvent>, kind: string) {
  for (;;) {
    const { value } = await watch.next();
    assert(value !== undefined, "the watch ended");
    if (value.kind === kind && (value.kind !== "snapshot" || value.complete)) return value;
  }
}

/** The streams that a watch opens from now on, to break. */
function tap(watch: Watch<Entry, WatchEvent>): { cancel(): void }[] {
  const { core } = watch;
  const connected = core.connected.bind(core);
  const streams: { cancel(): void }[] = [];
  core.connected = async (...args) => {
    const channel = await connected(...args);
    const makeServerStreamRequest = (...request: Parameters<typeof channel.makeServerStreamRequest>) => {
      const stream = channel.makeServerStreamRequest(...request);
      streams.push(stream);
      return stream;
    };
    return Object.assign(Object.create(channel), { makeServerStreamRequest });
  };
  return streams;
}

test("a refused token takes along only what is of its epoch", () => {
  const session = new Session();
  session.replace("strong", ofEpoch(1n));
  session.forget("eventual", ofEpoch(1n));
  session.forget("strong", ofEpoch(2n));
  assert.deepEqual(session.token("strong"), ofEpoch(1n));
  session.forget("strong", ofEpoch(1n, 9n));
  assert.equal(session.token("strong").length, 0);
  session.replace("strong", Buffer.from("of a later format"));
  session.forget("strong", Buffer.from("of a later format"));
  assert.equal(session.token("strong").length, 0);
});

for (const mode of ["strong", "eventual"] as const) {
  test(`${mode} mode: what is kept lives on when the epoch is raised`, async () => {
    const cluster = await Cluster.start(mode, 1);
    try {
      const client = cluster.client();
      await client.put("epoch/0", "x");
      const registration = await client.register({ service: "epoch", instanceId: "e-1", address: "10.0.0.5" }, { ttlMs: TTL_MS });
      const lease = await client.lease(TTL_MS);
      const watch = client.watch("epoch/");
      await step(watch, "snapshot");
      await cluster.advanceEpoch();
      await keptFor(2 * TTL_MS, registration, lease);
      assert.deepEqual([registration.state, registration.error, lease.held], ["registered", undefined, true]);
      assert.equal((await failure(client.get("epoch/0"), NodeError)).reason, "EPOCH_CHANGED");
      assert.equal((await client.get("epoch/0")).value?.toString(), "x", "and told once");
      const resync = await step(watch, "resync");
      assert(resync.kind === "resync" && resync.reason === "EPOCH_CHANGED");
      await step(watch, "snapshot");
      watch.close();
      await lease.revoke();
      await registration.close();
      assert(!(await client.discover("epoch")).serviceKnown);
      await client.close();
    } finally {
      await cluster.stop();
    }
  });
}

describe("with nodes", () => {
  let eventual: Cluster;
  let strong: Cluster;
  before(async () => {
    [strong, eventual] = [await Cluster.start("strong", 1), await Cluster.start("eventual")];
  });
  after(async () => {
    await strong.stop();
    await eventual.stop();
  });

  test("what is kept lives on when what the session saw is lost", async () => {
    const [client, other] = [eventual.client([1], { watchPatienceMs: 10_000 }), eventual.client([1])];
    const registration = await client.register({ service: "lost", instanceId: "l-1", address: "10.0.0.5" }, { ttlMs: TTL_MS });
    const lease = await client.lease(TTL_MS);
    const watch = client.watch("lost/");
    const streams = tap(watch);
    await step(watch, "snapshot");
    loseADot(client);
    assert.equal((await failure(client.get("lost/1", { timeoutMs: 500 }), NodeError)).reason, "TOKEN_AHEAD");
    await keptFor(2 * TTL_MS, registration, lease);
    assert.deepEqual([registration.state, registration.error, lease.held], ["registered", undefined, true]);
    await other.deregister("lost", "l-1");
    await eventually("it is back", async () => (await other.discover("lost")).instances[0]);
    streams.at(-1)!.cancel();
    await other.put("lost/1", "x");
    const seen = await step(watch, "changes");
    assert(seen.kind === "changes" && seen.changes[0]?.key === "lost/1");
    await registration.close();
    assert(!(await other.discover("lost")).serviceKnown);
    await lease.revoke();
    await client.close();
    await other.close();
  });

  test("a caller is told once that the token is of another cluster", async () => {
    for (const cluster of [strong, eventual]) {
      await cluster.with([1], {}, async (client) => {
        await client.put("restored", "1");
        for (const bad of [ofEpoch(1n), Buffer.from("no token at all")]) {
          const good = client.sessionToken();
          const named = await failure(client.get("restored", { token: bad }), NodeError);
          assert.deepEqual([named.reason, named.field], ["INVALID_ARGUMENT", "token"]);
          assert.deepEqual(client.sessionToken(), good, "what the caller names is the caller's");
          client.useToken(bad, cluster.mode);
          const refused = await failure(client.put("restored", "2"), NodeError);
          assert.deepEqual([refused.field, client.sessionToken().length], ["token", 0]);
          await client.put("restored", "3");
        }
      });
    }
  });

  test("a watch that had begun forgets a refused token", async () => {
    await strong.with([1], {}, async (client) => {
      await client.put("begun/0", "x");
      const watch = client.watch("begun/");
      const streams = tap(watch);
      await step(watch, "snapshot");
      // As if the connection had broken within the snapshot, and the cluster been replaced meanwhile.
      watch.cursor = new Uint8Array();
      client.useToken(ofEpoch(1n), "strong");
      streams.at(-1)!.cancel();
      const resync = await step(watch, "resync");
      assert(resync.kind === "resync" && resync.reason === "CONTACT_LOST");
      await step(watch, "snapshot");
      watch.close();
    });
  });
});
