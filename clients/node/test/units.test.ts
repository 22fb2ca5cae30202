/** What needs no node: the protos, tokens, numbers, retries. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { Core } from "../src/core.js";
import { Budget, Course, mayRetry, type Kind } from "../src/course.js";
import { isLoopback } from "../src/endpoints.js";
import { ContactLost, DeadlineExceeded, InvalidCall, NodeError, QuorumorError, Unreachable } from "../src/errors.js";
import { ANSWERS_MAX, Numbers } from "../src/session.js";
import type { CallOptions, ClientOptions } from "../src/options.js";
import { Watch } from "../src/watch.js";
import { decode as decodeWire, type Wire } from "../src/wire.js";
import { crc32c, decode, encode, EVENTUAL, merge, STRONG } from "../src/tokens.js";

test("the proto files are those of the checkout", () => {
  const copies = new URL("../../proto/quorumor/v1/", import.meta.url);
  const names = readdirSync(copies);
  assert.deepEqual(names.sort(), ["registry.proto", "state.proto"]);
  for (const name of names) {
    const original = new URL(`../../../../proto/quorumor/v1/${name}`, import.meta.url);
    assert.equal(readFileSync(new URL(name, copies), "utf8"), readFileSync(original, "utf8"), `${name}: run npm run proto`);
  }
});

const strong = (revision: bigint, epoch = 1n) => encode({ mode: STRONG, cluster: 7n, epoch, position: new Map([["0/0", revision]]) });
const eventual = (rows: [string, bigint][]) => encode({ mode: EVENTUAL, cluster: 7n, epoch: 1n, position: new Map(rows) });

test("a token is read as it was written", () => {
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  const wide = { mode: EVENTUAL, cluster: 2n ** 64n - 1n, epoch: 300n, position: new Map([["1/9223372036854775808", 9n], ["3/4", 128n]]) };
  assert.deepEqual(decode(encode(wide)), wide);
  assert.equal(decode(strong(5n).subarray(0, -1)), undefined);
});

test("a late answer never takes the token back, and concurrent ones are merged", () => {
  assert.deepEqual(merge(strong(9n), strong(5n)), strong(9n));
  assert.deepEqual(merge(strong(5n), strong(9n)), strong(9n));
  const both = merge(eventual([["1/1", 4n]]), eventual([["2/1", 7n]]));
  assert.deepEqual(both, eventual([["1/1", 4n], ["2/1", 7n]]));
  assert.deepEqual(merge(strong(9n), strong(1n, 2n)), strong(1n, 2n));
  assert.deepEqual(merge(strong(9n), Buffer.from("later format")), Buffer.from("later format"));
});

test("no more numbers are open than the cluster keeps answers", () => {
  const numbers = new Numbers(9n);
  const taken = Array.from({ length: ANSWERS_MAX }, () => numbers.take()!);
  assert.equal(numbers.take(), undefined);
  numbers.done(taken[1]!);
  assert.equal(numbers.take(), undefined, "what counts is the oldest");
  numbers.done(taken[0]!);
  assert.deepEqual(numbers.take(), { clientId: 9n, seq: ANSWERS_MAX + 1, ackedThrough: 2 });
});

function told(reason: string, certainty: string, retryAfterMs?: number, more: Record<string, string> = {}): NodeError {
  const error = new NodeError("told", reason, "a:1", status.UNAVAILABLE, { certainty, ...more });
  error.retryAfterMs = retryAfterMs;
  return error;
}

function course(kind: Kind, ms = 5_000): Course {
  const core = new Core({ endpoints: ["a:1", "b:2", "c:3"], mode: "strong" });
  return new Course(core, kind, core.options({}), performance.now() + ms);
}

test("a write is repeated only if it was not applied", () => {
  assert(!mayRetry(new ContactLost("lost"), "write"));
  assert(!mayRetry(new DeadlineExceeded("late"), "write"));
  assert(!mayRetry(told("OUTCOME_UNKNOWN", "unknown", 200), "write"));
  assert(mayRetry(new Unreachable("refused"), "write"));
  assert(mayRetry(told("NO_QUORUM", "not_applied", 200), "write"));
  assert(!mayRetry(told("INVALID_ARGUMENT", "not_applied"), "write"));
  assert(mayRetry(told("OUTCOME_UNKNOWN", "unknown"), "numbered"));
  assert(mayRetry(new ContactLost("lost"), "read"));
});

test("a redirect is followed at once to the leader", () => {
  const way = course("write");
  const first = way.next();
  const [address, place] = first === 1 ? ["c:3", 2] : ["b:2", 1];
  assert.equal(way.after(first, told("NOT_LEADER", "not_applied", 50, { leader: "9", leader_address: address as string })), 0);
  assert.equal(way.next(), place);
});

test("what a node asks for holds once there is nobody else, and no try is planned beyond the deadline", () => {
  const way = course("write");
  const pauses = [1, 2, 3].map(() => way.after(way.next(), told("NO_QUORUM", "not_applied", 700)));
  assert(Math.max(pauses[0]!, pauses[1]!) < 700 && pauses[2]! >= 700);
  const short = course("write", 100);
  assert.throws(() => [1, 2, 3].forEach(() => short.after(short.next(), told("NO_QUORUM", "not_applied", 700))), NodeError);
});

test("a numbered write that may have been applied stays unknown", () => {
  const way = course("numbered");
  way.after(way.next(), new ContactLost("lost"));
  const final = told("INVALID_ARGUMENT", "not_applied");
  assert.throws(() => way.after(way.next(), final), (error: QuorumorError) => error.outcomeUnknown);
});

function lastOf(way: Course, error: QuorumorError): QuorumorError {
  for (;;) {
    try {
      way.after(way.next(), error);
    } catch (final) {
      assert(final instanceof QuorumorError);
      return final;
    }
  }
}

test("a registration that may have happened is never told as not applied", () => {
  const elsewhere = () => told("NOT_LEADER", "not_applied", 50, { leader: "9", leader_address: "b:2" });
  for (const lost of [new DeadlineExceeded("late"), new ContactLost("lost")]) {
    // It was taken to the leader, whose answer never came: that another node had refused it before tells nothing.
    const way = course("harmless", 200);
    way.after(way.next(), elsewhere());
    const final = lastOf(way, lost);
    assert(final === lost && final.outcomeUnknown);
    // Nor does a refusal that comes after.
    const other = course("harmless");
    other.after(other.next(), lost);
    assert(lastOf(other, told("INVALID_ARGUMENT", "not_applied")).outcomeUnknown);
  }
});

test("a registration in doubt stays within its tries", () => {
  const way = course("harmless", 3_600_000);
  let tries = 0;
  const again = () => {
    for (; tries < 100; ) {
      tries += 1;
      way.after(way.next(), new ContactLost("lost"));
    }
  };
  assert.throws(again, ContactLost);
  assert.equal(tries, 16);
});

test("a read that is lost tells what a node said", () => {
  const way = course("read", 200);
  const refused = told("NO_QUORUM", "not_applied", 10);
  way.after(way.next(), refused);
  assert.equal(lastOf(way, new DeadlineExceeded("late")), refused);
});

test("a watch of services leaves a node that lost its leader", async () => {
  const open = async (options: Partial<ClientOptions>, call: CallOptions = {}) => {
    const core = new Core({ endpoints: ["a:1", "b:2", "c:3"], ...options });
    const asked: { place: number; message: Wire }[] = [];
    core.connected = async (place) => {
      const makeServerStreamRequest = (_: string, __: unknown, ___: unknown, message: Wire) => {
        const cursor = Buffer.from(`${asked.push({ place, message })}`);
        const steps = (async function* () {
          yield { step: "snapshot", snapshot: { instances: [], complete: true }, cursor, receipt: decodeWire("quorumor.v1.Receipt", new Uint8Array()) };
          throw told("LEADER_LOST", "not_applied", 1);
        })();
        return Object.assign(Readable.from(steps), { cancel: () => {} });
      };
      return { makeServerStreamRequest } as never;
    };
    const watched = { service: "RegistryService", method: "WatchService", request: { service: "web" }, entries: () => [], changes: () => [] } as const;
    const watch = new Watch(core, watched, core.options(call), () => {});
    for (let step = 0; step < 2; step += 1) await watch.next();
    watch.close();
    return asked;
  };
  const [first, second] = await open({ mode: "strong" });
  assert.deepEqual([first?.message.endOnLeaderLost, second?.message.endOnLeaderLost], [true, true]);
  assert.notEqual(first?.place, second?.place);
  assert.equal(second?.message.cursor.toString(), "1");
  assert.equal((await open({ mode: "eventual" }))[0]?.message.endOnLeaderLost, false);
  assert.equal((await open({ mode: "strong" }, { level: "local" }))[0]?.message.endOnLeaderLost, false);
});

test("a spent budget refuses until calls are answered", () => {
  const budget = new Budget();
  assert.equal(Array.from({ length: 200 }, () => budget.spend()).filter(Boolean).length, 100);
  for (let call = 0; call < 10; call += 1) budget.earn();
  assert(budget.spend() && !budget.spend());
});

test("what makes no sense is refused by name", () => {
  for (const bad of ["", "host", "host:port", "https://a:1", "a:99999"]) {
    assert.throws(() => new Core({ endpoints: [bad] }), InvalidCall, bad);
  }
  assert.throws(() => new Core({ endpoints: [] }), InvalidCall);
  assert.throws(() => new Core({ endpoints: ["a:1"], level: "strongest" as never }), InvalidCall);
});

test("a bearer token leaves over plain connections only to the loopback", () => {
  assert(isLoopback("127.0.0.1:1") && isLoopback("[::1]:1") && isLoopback("localhost:1") && !isLoopback("127.example:1"));
  const core = new Core({ endpoints: ["a:1"], authToken: "secret" });
  assert.deepEqual(core.metadata("127.0.0.1:1").get("authorization"), ["Bearer secret"]);
  assert.throws(() => core.metadata("10.0.0.1:1"), InvalidCall);
});
