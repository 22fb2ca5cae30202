/** Services, in both modes: registered, kept alive, found, watched, taken out; and the nodes. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Cluster, eventually } from "./cluster.js";
import { type Client, type DiscoverQuery } from "../src/index.js";

async function found(client: Client, service: string, query: DiscoverQuery = {}): Promise<string> {
  const { instances } = await client.discover(service, query);
  return instances.map(({ instance }) => instance.instanceId).sort().join();
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

    test("an instance is there until it is taken out", async () => {
      const web = { service: "web", instanceId: "web-1", address: "10.0.0.5", port: 8080, tags: ["v2"], metadata: { version: "2" }, zone: "a", weight: 3 };
      const registration = await client.register(web, { ttlMs: 2_000 });
      assert(registration.first.created);
      const [shown] = (await client.discover("web")).instances;
      assert(shown !== undefined && shown.health === "passing" && shown.leaseId !== 0n);
      const { nodeId, checks, deregisterCriticalAfterMs, ...told } = shown.instance;
      assert.deepEqual([{ ...told, metadata: { ...told.metadata } }, checks, deregisterCriticalAfterMs], [web, [], undefined]);
      assert(nodeId);
      await cluster.with(cluster.ids, {}, (other) => eventually("every client finds it", async () => (await found(other, "web")) === "web-1"));
      assert.equal(await found(client, "web", { filter: "v2 && version=2" }), "web-1");
      assert.equal(await found(client, "web", { filter: "!v2" }), "");
      const summary = (await client.services()).services.find(({ service }) => service === "web");
      assert.deepEqual([summary?.passing, summary?.tags], [1, ["v2"]]);
      // Two whole TTLs later it can only be there by its signs of life.
      const { since } = shown;
      const late = performance.now() + 2 * registration.first.ttlMs;
      await eventually("two TTLs have passed", async () => (await found(client, "web")) === "web-1" && performance.now() > late);
      assert.equal((await client.discover("web")).instances[0]?.since.getTime(), since.getTime(), "it was there all the time");
      await registration.close();
      assert.equal(registration.state, "left");
      await eventually("it is out", async () => !(await client.discover("web")).serviceKnown);
    });

    test("an instance that is gone registers again", async () => {
      const registration = await client.register({ service: "again", instanceId: "a-1", address: "10.0.0.5" }, { ttlMs: 3_000 });
      await client.deregister("again", "a-1");
      assert.equal(await found(client, "again"), "");
      await eventually("it is back", async () => (await found(client, "again")) === "a-1");
      await registration.close();
    });

    test("an instance tells its own health", async () => {
      const registration = await client.register({ service: "ill", instanceId: "i-1", address: "10.0.0.5" }, { ttlMs: 10_000 });
      registration.tell("critical", "the disk is full");
      await eventually("it isn't used", async () => (await found(client, "ill")) === "");
      const ill = await client.discover("ill", { health: "any" });
      assert(ill.serviceKnown && ill.instances[0]?.health === "critical");
      assert(ill.instances[0].checks.some(({ health, output }) => health === "critical" && output === "the disk is full"));
      registration.tell("passing");
      await eventually("it is used again", async () => (await found(client, "ill")) === "i-1");
      await registration.close();
    });

    test("an instance of a process that dies goes with its TTL", async () => {
      await client.registerOnce({ service: "mortal", instanceId: "m-1", address: "10.0.0.5" }, { ttlMs: 1_000 });
      assert((await client.beat("mortal", "m-1")).ttlMs);
      await eventually("it is gone", async () => !(await client.discover("mortal")).serviceKnown);
      assert.equal((await client.beat("mortal", "m-1")).ttlMs, undefined);
      assert.equal((await client.deregister("mortal", "m-1")).found, false);
    });

    test("a check is done by the node", async () => {
      const checks = [{ checkId: "port", tcp: { address: "127.0.0.1:1" }, intervalMs: 1_000 }];
      const registration = await client.register({ service: "checked", instanceId: "c-1", address: "127.0.0.1", checks }, { ttlMs: 30_000 });
      const shown = async () => (await client.discover("checked", { health: "any" })).instances[0];
      await eventually("the check has failed", async () => (await shown())?.checks.find(({ checkId }) => checkId === "port")?.output);
      assert.equal((await shown())?.health, "critical");
      assert.deepEqual((await shown())?.instance.checks?.[0]?.tcp, checks[0]!.tcp);
      await registration.close();
    });

    test("a TTL check stays passing under a longer TTL", async () => {
      const checks = [{ checkId: "word", ttl: {}, intervalMs: 3_000 }];
      const registration = await client.register({ service: "worded", instanceId: "w-1", address: "10.0.0.5", checks }, { ttlMs: 60_000 });
      const health = async () => (await client.discover("worded", { health: "any" })).instances[0]?.checks.find(({ checkId }) => checkId === "word")?.health;
      await eventually("its first word is heard", async () => (await health()) === "passing");
      const heard = registration.until;
      await eventually("two intervals have passed", async () => {
        assert.equal(await health(), "passing");
        return registration.until > heard + 2 * 3_000;
      });
      await registration.close();
    });

    test("a watch tells who comes and goes", async () => {
      await client.registerOnce({ service: "seen", instanceId: "s-1", address: "10.0.0.1" }, { ttlMs: 60_000 });
      const watch = client.watchService("seen");
      const state = new Set<string>();
      const until = async (wanted: string) => {
        while ([...state].sort().join() !== wanted) {
          const { value: step } = await watch.next();
          assert(step !== undefined, "the watch ended");
          if (step.kind === "resync") state.clear();
          if (step.kind === "snapshot") for (const { instance } of step.entries) state.add(instance.instanceId);
          if (step.kind !== "changes") continue;
          for (const { instanceId, present } of step.changes) present ? state.add(instanceId) : state.delete(instanceId);
        }
      };
      await until("s-1");
      const registration = await client.register({ service: "seen", instanceId: "s-2", address: "10.0.0.2" }, { ttlMs: 60_000 });
      await until("s-1,s-2");
      await registration.close();
      await until("s-1");
      watch.close();
    });

    test("nodes are listed", async () => {
      const { nodes } = await client.nodes();
      assert.deepEqual(nodes.map(({ member }) => [member.nodeId, member.state]), cluster.ids.map((node) => [BigInt(node), "alive"]));
    });

    // Last, since it kills a node.
    test("a registration outlives the node that took it", async () => {
      const registration = await client.register({ service: "hardy", instanceId: "h-1", address: "10.0.0.5" }, { ttlMs: 2_000 });
      const takenBy = Number(registration.first.receipt.nodeId);
      await cluster.kill(takenBy);
      await cluster.with(cluster.ids.filter((node) => node !== takenBy), {}, (other) =>
        eventually("it is found at the others", async () => (await found(other, "hardy")) === "h-1"),
      );
      await eventually("it is kept by another node", () => registration.state === "registered" && registration.error === undefined);
      await registration.close();
    });
  });
}
