/** When signs of life are given, and when no more: with a registry that answers as a test wants. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { eventually } from "./cluster.js";
import { NodeError, type CallOptions, type Client, type Health, type Instance, type KeptAnswer, type RegisterAnswer } from "../src/index.js";
import { receiptFromWire } from "../src/answers.js";
import { Registration, Schedule } from "../src/keeping.js";
import { awaitedMs, REFUSALS } from "../src/registry.js";
import { decode } from "../src/wire.js";

const WEB = { service: "web", instanceId: "web-1", address: "10.0.0.5" };
const receipt = receiptFromWire(decode("quorumor.v1.Receipt", new Uint8Array()));

/** What a registration asks of its client. */
class Registry {
  /** The next sign of life finds nothing. */
  gone = false;
  /** Why it isn't registered again. */
  refuses?: string;
  registered = 0;
  readonly told: (Health | undefined)[] = [];
  /** Holds back the answer to the next sign of life. */
  held?: Promise<void>;

  constructor(readonly ttlMs: number) {}

  async registerOnce(): Promise<RegisterAnswer> {
    this.registered += 1;
    const refused = { certainty: "not_applied" };
    if (this.refuses !== undefined && this.registered > 1) throw new NodeError("refused", this.refuses, "a:1", status.UNAVAILABLE, refused);
    return { receipt, ttlMs: this.ttlMs, created: true };
  }

  async beat(_service: string, _instanceId: string, options: CallOptions & { health?: Health }): Promise<KeptAnswer> {
    this.told.push(options.health);
    const { held } = this;
    this.held = undefined;
    await held;
    return { receipt, ttlMs: this.gone ? undefined : this.ttlMs };
  }

  async register(instance: Instance = WEB): Promise<Registration> {
    const [asked, first] = [performance.now(), await this.registerOnce()];
    const client = this as unknown as Client;
    return new Registration(client, instance, this.ttlMs, undefined, {}, first, asked, async () => {}, () => {});
  }
}

test("what is told during a sign of life goes out after it", async () => {
  // The next sign of life would be due in a hundred seconds, and a test is patient for sixty.
  const registry = new Registry(300_000);
  const registration = await registry.register();
  let goOn = () => {};
  registry.held = new Promise((resolve) => (goOn = resolve));
  registration.tell("passing");
  await eventually("it has begun", () => registry.told.length > 0);
  registration.tell("critical", "the disk is full");
  goOn();
  await eventually("that goes out too", () => registry.told.join() === "passing,critical");
  await registration.close();
});

test("what nobody heard is told again after a return", async () => {
  const registry = new Registry(300_000);
  registry.gone = true;
  const registration = await registry.register();
  registration.tell("warning", "busy");
  await eventually("it is registered again", () => registry.registered >= 2);
  registry.gone = false;
  await eventually("that is told again", () => registry.told.length > 1 && registration.state === "registered");
  await registration.close();
});

test("pauses grow after failures, and begin anew after a success", () => {
  const schedule = new Schedule(30_000, performance.now());
  const pauses = Array.from({ length: 8 }, () => {
    schedule.failed();
    return schedule.pauseMs;
  });
  assert(pauses[0]! <= 100 && pauses.at(-1)! >= 1_900 && Math.max(...pauses) <= 4_000, pauses.join());
  schedule.confirmed(performance.now(), 30_000);
  schedule.failed();
  assert(schedule.pauseMs <= 100);
});

test("no pause passes the middle of what is left", () => {
  const schedule = new Schedule(3_000, performance.now() - 2_000);
  for (let failure = 0; failure < 8; failure += 1) {
    schedule.failed();
    assert(schedule.pauseMs <= 500);
  }
  assert(!schedule.ranOut);
});

test("signs of life come twice in the time of a TTL check", () => {
  const now = performance.now();
  const tcp = { checkId: "port", tcp: {}, intervalMs: 1_000 };
  assert.equal(awaitedMs({ ...WEB, checks: [tcp] }), undefined);
  assert.equal(awaitedMs({ ...WEB, checks: [tcp, { checkId: "slow", ttl: {}, intervalMs: 20_000 }, { checkId: "word", ttl: {}, intervalMs: 5_000 }] }), 5_000);
  assert.equal(awaitedMs({ ...WEB, checks: [{ checkId: "word", ttl: {} }] }), 10_000);
  for (const [awaited, interval] of [[undefined, 10_000], [5_000, 2_500], [60_000, 10_000]] as const) {
    const schedule = new Schedule(30_000, now, awaited);
    // Only what has passed since may lack.
    assert(schedule.pauseMs <= interval && schedule.pauseMs > interval - 1_000);
  }
});

test("a TTL check hears of an instance at once and after each return", async () => {
  // Nothing else would be due within the patience of a test.
  const registry = new Registry(600_000);
  const registration = await registry.register({ ...WEB, checks: [{ checkId: "word", ttl: {}, intervalMs: 200_000 }] });
  await eventually("it is told at once", () => registry.told.length === 1);
  registry.gone = true;
  registration.tell("warning");
  // Nobody finds it though it was registered again: no reason to hurry, and it is four pauses of 50 ms and twice as much each.
  const began = performance.now();
  await eventually("it is registered again", () => registry.registered > 4);
  assert(performance.now() - began >= 750);
  registry.gone = false;
  await eventually("and told again", () => registry.told.length > 2 && registration.state === "registered");
  await registration.close();
});

for (const reason of REFUSALS) {
  test(`a registration that is refused for good (${reason}) is not tried again`, async () => {
    const registry = new Registry(30_000);
    [registry.gone, registry.refuses] = [true, reason];
    const registration = await registry.register();
    registration.tell("passing");
    await eventually("it is refused", () => registration.state === "refused");
    assert.deepEqual([registry.registered, registration.error?.reason], [2, reason]);
    await registration.close();
  });
}
