/** The calls in both modes: answers, receipts, the session, leases, watches, refusals. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Cluster, eventually, failure } from "./cluster.js";
import { Client, compare, InvalidCall, NodeError, op, type Entry, type Watch, type WatchEvent } from "../src/index.js";

async function snapshot(watch: Watch<Entry, WatchEvent>): Promise<Map<string, string>> {
  const state = new Map<string, string>();
  for (;;) {
    const { value: step } = await watch.next();
    assert(step !== undefined, "the watch ended");
    if (step.kind !== "snapshot") continue;
    for (const entry of step.entries) state.set(entry.key, entry.value.toString());
    if (step.complete) return state;
  }
}

async function changes(watch: Watch<Entry, WatchEvent>, count: number): Promise<[string, string | undefined][]> {
  const seen: [string, string | undefined][] = [];
  while (seen.length < count) {
    const { value: step } = await watch.next();
    assert(step !== undefined, "the watch ended");
    if (step.kind === "changes") seen.push(...step.changes.map((one) => [one.key, one.entry?.value.toString()] as [string, string | undefined]));
  }
  return seen;
}

for (const mode of ["strong", "eventual"] as const) {
  describe(mode, () => {
    let cluster: Cluster;
    let client: Client;
    before(async () => {
      cluster = await Cluster.start(mode);
      client = cluster.client();
    });
    after(async () => {
      await client.close();
      await cluster.stop();
    });

    test("a client reads its own writes at every node, concurrent ones too", async () => {
      const nodes = [...cluster.endpoints.values()];
      const numbers = Array.from({ length: 30 }, (_, n) => n);
      const puts = await Promise.all(numbers.map((n) => client.put(`own/${n}`, String(n), { endpoint: nodes[n % 3] })));
      assert(puts.every((put) => put.receipt.writeOutcome === "applied"));
      for (const endpoint of nodes) {
        for (const n of numbers) {
          const got = await client.get(`own/${n}`, { level: "local", endpoint });
          assert.equal(got.value?.toString(), String(n));
          assert.equal(got.receipt.got, "local");
          assert.equal(got.receipt.mode, mode);
        }
      }
    });

    test("the session can be handed over and reset", async () => {
      await client.put("handed/over", "v");
      const token = client.sessionToken();
      assert(token.length > 0);
      await cluster.with(cluster.ids, {}, async (reader) => {
        reader.useToken(token, mode);
        for (const endpoint of cluster.endpoints.values()) {
          assert.equal((await reader.get("handed/over", { level: "local", endpoint })).value?.toString(), "v");
        }
        reader.resetSession();
        assert.equal(reader.sessionToken().length, 0);
      });
    });

    test("deletes and absence are answers, and lists go through all pages", async () => {
      const keys = Array.from({ length: 25 }, (_, n) => `list/${String(n).padStart(2, "0")}`);
      for (const key of keys) await client.put(key, key);
      const listed: string[] = [];
      for await (const entry of client.list("list/", { limit: 10 })) listed.push(entry.key);
      assert.deepEqual(listed, keys);
      const interval = await client.listPage({ start: "list/03", end: "list/06" });
      assert.deepEqual(interval.entries.map((entry) => entry.key), keys.slice(3, 6));
      assert.equal((await client.delete("list/00")).previous?.value.toString(), "list/00");
      assert.equal((await client.delete("list/00")).previous, undefined);
      assert.equal((await client.get("list/00")).entry, undefined);
    });

    test("a bad argument is told and not applied", async () => {
      const error = await failure(client.put("", "v"), NodeError);
      assert.equal(error.reason, "INVALID_ARGUMENT");
      assert.equal(error.certainty, "not_applied");
    });

    test("a node describes itself", async () => {
      for (const [node, endpoint] of cluster.endpoints) {
        const described = await client.describe({ endpoint });
        assert.equal(described.receipt.nodeId, BigInt(node));
        assert.deepEqual([described.health, described.modes, described.members.length], ["serving", [mode], 3]);
      }
    });

    test("a lease outlives its TTL while it is kept, and takes its keys along", async () => {
      const lease = await client.lease(1_000);
      await client.put("leased/key", "x", { leaseId: lease.id });
      const first = lease.until;
      // Two whole TTLs later it can only live by keep-alives.
      await eventually("it was kept alive", () => lease.until > first + 2 * lease.ttlMs);
      assert(lease.held);
      assert.equal((await client.get("leased/key")).value?.toString(), "x");
      await lease.revoke();
      await eventually("its key is gone", async () => (await client.get("leased/key")).entry === undefined);
    });

    test("the owner hears of a lease that was revoked", async () => {
      const lease = await client.lease(1_500);
      await client.revokeLease(lease.id);
      assert.equal(await lease.lost, "gone");
      assert(!lease.held);
      assert.equal((await client.keepAlive(lease.id)).ttlMs, undefined);
      await lease.close();
    });

    test("a watch gives a snapshot, then changes in order, and goes on from a cursor", async () => {
      await cluster.with([1], { followHints: false }, async (one) => {
        await one.put("watch/a", "1");
        const watch = one.watch("watch/");
        assert.equal((await snapshot(watch)).get("watch/a"), "1");
        await one.put("watch/b", "2");
        await one.delete("watch/b");
        await one.put("elsewhere", "x");
        await one.put("watch/a", "3");
        assert.deepEqual(await changes(watch, 3), [["watch/b", "2"], ["watch/b", undefined], ["watch/a", "3"]]);
        const { cursor } = watch;
        watch.close();
        assert.equal((await watch.next()).done, true);
        await one.put("watch/missed", "4");
        for await (const step of one.watch("watch/", { cursor })) {
          if (step.kind === "progress") continue;
          assert(step.kind === "changes");
          assert.equal(step.changes[0]?.key, "watch/missed");
          break;
        }
      });
    });

    test("what runs in the background ends with the client", async () => {
      const short = cluster.client();
      const lease = await short.lease(10_000);
      const watch = short.watch("background/");
      await snapshot(watch);
      const next = (async () => {
        for (;;) if ((await watch.next()).done) return "ended";
      })();
      await short.close();
      assert.equal(await next, "ended");
      assert.equal(lease.lostReason, undefined);
      await failure(short.get("k"), InvalidCall);
    });

    test("numbered writes are served in strong mode and left out in eventual", async () => {
      await cluster.with(cluster.ids, { exactlyOnce: true }, async (numbered) => {
        await Promise.all(Array.from({ length: 20 }, (_, n) => numbered.put(`numbered/${n}`, "x")));
        assert.equal((await numbered.listPage("numbered/")).entries.length, 20);
      });
    });

    if (mode === "strong") {
      test("compares and transactions", async () => {
        await client.delete("cas");
        const made = await client.compareAndSet("cas", { absent: true }, "1");
        assert(made.succeeded);
        const lost = await client.compareAndSet("cas", { absent: true }, "2");
        assert.deepEqual([lost.succeeded, lost.entry?.value.toString()], [false, "1"]);
        assert((await client.compareAndSet("cas", { modRevision: made.entry!.version.modRevision }, "2")).succeeded);
        assert((await client.compareAndSet("cas", { value: "2" }, "3")).succeeded);
        const moved = await client.txn([compare.value("cas", "==", "3"), compare.absent("txn")], [op.put("txn", "4"), op.get("txn")]);
        assert(moved.succeeded);
        const read = moved.results[1]!;
        assert(read.kind === "get" && read.entry?.value.toString() === "4");
        const other = await client.txn([compare.absent("txn")], [op.put("txn", "5")], [op.delete("cas")]);
        assert(!other.succeeded);
        assert.equal((await client.get("cas")).entry, undefined);
        assert.equal((await client.get("cas", { revision: made.receipt.revision })).value?.toString(), "1");
      });
    } else {
      test("what the mode can't honour is a typed error", async () => {
        const refused = await failure(client.compareAndSet("k", { absent: true }, "v"), NodeError);
        assert.equal(refused.reason, "GUARANTEE_UNAVAILABLE");
        assert.equal(refused.certainty, "not_applied");
        assert.equal(refused.receipt?.mode, "eventual");
        assert((await failure(client.get("k", { level: "linearizable" }), NodeError)).bestAvailable);
        assert((await client.get("k", { level: "linearizable", allowDegraded: true })).receipt.degraded);
      });

      test("a cursor of another node says resync", async () => {
        const one = client.watch("foreign/", { endpoint: cluster.endpoints.get(1) });
        await snapshot(one);
        const other = client.watch("foreign/", { endpoint: cluster.endpoints.get(2), cursor: one.cursor });
        const { value: step } = await other.next();
        assert(step?.kind === "resync");
        assert.equal(step.reason, "FOREIGN_CURSOR");
        await snapshot(other);
        one.close();
        other.close();
      });
    }
  });
}
