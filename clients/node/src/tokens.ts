/**
 * Session tokens of concurrent answers, joined.
 *
 * A token is opaque to whoever carries it; one that can't be read here is carried all the same. It is read only so that answers
 * that come in any order never take a session back: whichever of two has seen more is kept, or both are merged.
 */

const FORMAT = 1;
const ROWS_MAX = 1024;
export const STRONG = 1;
export const EVENTUAL = 2;

/** What a session has seen. */
export interface Token {
  mode: number;
  cluster: bigint;
  epoch: bigint;
  /** By `writer/log`; in strong mode the one row `0/0` holds the revision. */
  position: Map<string, bigint>;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc >>> 0;
});

/** The Castagnoli checksum. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** The token of a session that has seen both. */
export function merge(old: Uint8Array, next: Uint8Array): Uint8Array {
  if (old.length === 0 || Buffer.compare(old, next) === 0) return next;
  const left = decode(old);
  const right = decode(next);
  if (!left || !right || !sameData(left, right) || covers(right, left)) return next;
  if (covers(left, right)) return old;
  const position = new Map(left.position);
  for (const [row, seq] of right.position) {
    const known = position.get(row) ?? 0n;
    position.set(row, seq > known ? seq : known);
  }
  // Too wide for one token: the node will say so when it comes to that.
  return position.size <= ROWS_MAX ? encode({ ...left, position }) : next;
}

/** Whether two tokens speak of the same data: whoever refuses one for good refuses both. */
export function sameEpoch(one: Uint8Array, other: Uint8Array): boolean {
  const [left, right] = [decode(one), decode(other)];
  return Buffer.compare(one, other) === 0 || (left !== undefined && right !== undefined && sameData(left, right));
}

function sameData(left: Token, right: Token): boolean {
  return left.mode === right.mode && left.cluster === right.cluster && left.epoch === right.epoch;
}

function covers(left: Token, right: Token): boolean {
  return [...right.position].every(([row, seq]) => (left.position.get(row) ?? 0n) >= seq);
}

/** Reads a token; undefined if it can't be read here. */
export function decode(data: Uint8Array): Token | undefined {
  if (data.length < 6 || data[0] !== FORMAT) return undefined;
  const body = data.subarray(0, -4);
  if (crc32c(body) !== Buffer.from(data.subarray(-4)).readUInt32LE()) return undefined;
  const numbers: bigint[] = [];
  let number = 0n;
  let shift = 0n;
  for (const byte of body.subarray(2)) {
    number |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte < 0x80) {
      numbers.push(number);
      number = shift = 0n;
    }
  }
  const [cluster, epoch, first, ...rest] = numbers;
  if (shift !== 0n || cluster === undefined || epoch === undefined || first === undefined) return undefined;
  const mode = body[1]!;
  if (mode === STRONG && rest.length === 0) return { mode, cluster, epoch, position: new Map([["0/0", first]]) };
  if (mode !== EVENTUAL || BigInt(rest.length) !== 3n * first) return undefined;
  const position = new Map<string, bigint>();
  for (let at = 0; at < rest.length; at += 3) position.set(`${rest[at]}/${rest[at + 1]}`, rest[at + 2]!);
  return { mode, cluster, epoch, position };
}

/** The token as bytes, as a node writes it. */
export function encode(token: Token): Uint8Array {
  const numbers = [token.cluster, token.epoch];
  if (token.mode === STRONG) {
    numbers.push(...token.position.values());
  } else {
    const rows = [...token.position].map(([row, seq]) => [...row.split("/").map(BigInt), seq]);
    rows.sort((a, b) => order(a[0]!, b[0]!) || order(a[1]!, b[1]!));
    numbers.push(BigInt(rows.length), ...rows.flat());
  }
  const out = [FORMAT, token.mode];
  for (let number of numbers) {
    for (; number >= 0x80n; number >>= 7n) out.push(Number(number & 0x7fn) | 0x80);
    out.push(Number(number));
  }
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(crc32c(Uint8Array.from(out)));
  return Buffer.concat([Uint8Array.from(out), crc]);
}

function order(a: bigint, b: bigint): number {
  return a < b ? -1 : Number(a > b);
}
