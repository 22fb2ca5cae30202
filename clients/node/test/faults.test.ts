/** Nodes that die, stand still or are cut off: what the caller is told, and that it goes on after. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cluster, eventually, failure } from "./cluster.js";
import { NodeError, QuorumorError, Unreachable, type Client } from "../src/index.js";

async function story(cluster: Cluster, tell: () => Promise<void>): Promise<void> {
  try {
    await tell();
  } finally {
    await cluster.stop();
  }
}

async function value(client: Client, key: string): Promise<string | undefined> {
  return (await client.get(key)).value?.toString();
}

test("strong mode refuses in a minority and serves again", async () => {
  const cluster = await Cluster.start("strong");
  await story(cluster, async () => {
    const client = cluster.client(cluster.ids, { timeoutMs: 20_000 });
    await client.put("minority", "before");
    const leader = await cluster.leader();
    const survivor = cluster.ids.find((node) => node !== leader)!;
    const others = cluster.ids.filter((node) => node !== survivor);
    for (const node of others) cluster.pause(node);
    await cluster.with([survivor], {}, async (alone) => {
      const started = performance.now();
      const refused = await failure(alone.put("minority", "during", { timeoutMs: 3_000 }), QuorumorError);
      assert(performance.now() - started < 4_000);
      assert(["NO_QUORUM", "NOT_LEADER", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED"].includes(refused.reason), refused.reason);
      await eventually("the minority knows that it is one", async () => {
        const told = await failure(alone.put("minority", "never", { timeoutMs: 2_000 }), QuorumorError);
        return told instanceof NodeError && told.certainty === "not_applied";
      });
      const local = await alone.get("minority", { level: "local", token: new Uint8Array() });
      assert.deepEqual([local.value?.toString(), local.receipt.got], ["before", "local"]);
    });
    for (const node of others) cluster.resume(node);
    await eventually("a majority serves", () => client.put("minority", "after"));
    assert.equal(await value(client, "minority"), "after");
    await client.close();
  });
});

test("a write of unknown outcome is told, and a numbered one is settled", async () => {
  const cluster = await Cluster.start("strong");
  await story(cluster, async () => {
    const plain = cluster.client();
    const numbered = cluster.client(cluster.ids, { exactlyOnce: true });
    const leader = await cluster.leader();
    // The second one goes straight to the leader, over a connection that then is there.
    for (const client of [plain, plain, numbered, numbered]) await client.put("count", "x");
    cluster.pause(leader);
    // The client knows who leads, and its request is taken by a process that stands still.
    const unknown = await failure(plain.put("count", "y", { timeoutMs: 500 }), QuorumorError);
    assert(unknown.outcomeUnknown);
    const answer = await numbered.put("numbered", "z", { timeoutMs: 20_000 });
    assert.equal(answer.receipt.writeOutcome, "applied");
    cluster.resume(leader);
    const { entry } = await numbered.get("numbered", { timeoutMs: 30_000 });
    assert.equal(entry?.version.count, 1n, "applied once");
    await plain.close();
    await numbered.close();
  });
});

test("a watch survives the death of its node without a gap", async () => {
  const cluster = await Cluster.start("strong");
  await story(cluster, async () => {
    const client = cluster.client(cluster.ids, { exactlyOnce: true, timeoutMs: 60_000 });
    const watch = client.watch("survive/");
    const wanted = [0, 1, 2, 3, 4, 5].map((number) => `survive/${number}`);
    const seen: string[] = [];
    for await (const step of watch) {
      assert.notEqual(step.kind, "resync");
      if (step.kind === "snapshot" && step.complete) {
        await client.put(wanted[0]!, "x");
      } else if (step.kind === "changes") {
        seen.push(...step.changes.map((change) => change.key));
        if (seen.length === 1) {
          await cluster.kill(await cluster.leader());
          for (const key of wanted.slice(1)) await client.put(key, "x");
        }
        if (seen.length >= wanted.length) break;
      }
    }
    assert.deepEqual(seen, wanted);
    await client.close();
  });
});

test("reads and writes go on when a node dies, and nobody listening is certain", async () => {
  const cluster = await Cluster.start("eventual");
  await story(cluster, async () => {
    const client = cluster.client();
    const put = await client.put("alive", "1");
    await cluster.kill(Number(put.receipt.nodeId));
    // Not from the session: what only the dead node had may be gone with it.
    client.resetSession();
    // A try may have been under way when the connection broke, and what became of that one nobody knows.
    const again = await eventually("another node takes it", () => client.put("alive", "2"));
    assert.notEqual(again.receipt.nodeId, put.receipt.nodeId);
    assert.equal(await value(client, "alive"), "2");
    for (const node of cluster.ids) if (BigInt(node) !== put.receipt.nodeId) await cluster.kill(node);
    await eventually("the connections are known to be broken", async () => {
      const error = await failure(client.put("k", "v", { timeoutMs: 1_000 }), QuorumorError);
      return error instanceof Unreachable && error.certainty === "not_applied";
    });
    await client.close();
  });
});

test("eventual mode writes on both sides of a partition and converges", async () => {
  const cluster = await Cluster.start("eventual", 3, true);
  await story(cluster, async () => {
    const minority = cluster.client([1]);
    const majority = cluster.client([2, 3]);
    await minority.put("split/before", "x");
    majority.useToken(minority.sessionToken(), "eventual");
    assert.equal(await value(majority, "split/before"), "x");
    cluster.cutOff(1);
    await eventually("the minority sees nobody", async () => (await minority.describe()).receipt.members.alive === 1);
    await minority.put("split/minority", "1");
    await majority.put("split/majority", "2");
    await minority.put("split/both", "of the minority");
    await majority.put("split/both", "of the majority");
    assert.equal(await value(majority, "split/minority"), undefined);
    const token = minority.sessionToken();
    const ahead = await failure(majority.get("split/minority", { token, timeoutMs: 2000 }), NodeError);
    assert.equal(ahead.reason, "TOKEN_AHEAD");
    assert(ahead.receipt);

    cluster.heal();
    await eventually("the minority has it", async () => (await value(minority, "split/majority")) === "2");
    await eventually("the majority has it", async () => (await value(majority, "split/minority")) === "1");
    for (const node of cluster.ids) {
      await cluster.with([node], {}, (one) =>
        eventually(`node ${node} has converged`, async () => (await value(one, "split/both")) === (await value(minority, "split/both"))),
      );
    }
    await minority.close();
    await majority.close();
  });
});

test("strong mode parts by the network as it does by pauses", async () => {
  const cluster = await Cluster.start("strong", 3, true);
  await story(cluster, async () => {
    const leader = await cluster.leader();
    const old = cluster.client([leader], { followHints: false });
    const rest = cluster.client(cluster.ids.filter((node) => node !== leader), { followHints: false });
    await old.put("split", "1");
    cluster.cutOff(leader);
    const taken = await eventually("the majority has a leader", () => rest.put("split", "2", { timeoutMs: 2_000 }));
    assert.notEqual(taken.receipt.leader, BigInt(leader));
    await eventually("the minority refuses", async () => {
      return !(await failure(old.put("split", "3", { timeoutMs: 1_000 }), QuorumorError)).outcomeUnknown;
    });
    cluster.heal();
    await eventually("they are one again", async () => (await value(old, "split")) === "2");
    await old.close();
    await rest.close();
  });
});
