/** The messages of the wire, from the proto files of the package. 64-bit numbers come as text, enums as their names. */

import { fileURLToPath } from "node:url";
import { loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";
import type { MethodDefinition } from "@grpc/grpc-js";

/** A message, as the loader gives it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Wire = any;

/** dist/src and src lie equally deep below a folder, and that of dist is one deeper. */
function protoFolder(): string {
  const here = new URL(".", import.meta.url);
  const up = here.pathname.endsWith("/dist/src/") ? "../../proto" : "../proto";
  return fileURLToPath(new URL(up, here));
}

const definition = loadSync(["quorumor/v1/state.proto", "quorumor/v1/registry.proto", "google/rpc/status.proto"], {
  includeDirs: [protoFolder()],
  longs: String,
  enums: String,
  defaults: true,
  arrays: true,
  oneofs: true,
});

/** A method by service and name. */
export function method(service: string, name: string): MethodDefinition<Wire, Wire> {
  const found = (definition[`quorumor.v1.${service}`] as Record<string, MethodDefinition<Wire, Wire>>)[name];
  if (found === undefined) throw new Error(`the proto files have no ${service}.${name}`);
  return found;
}

/** Reads an encoded message by its full name. */
export function decode(name: string, bytes: Uint8Array): Wire {
  return (definition[name] as MessageTypeDefinition<Wire, Wire>).deserialize(Buffer.from(bytes));
}

/** A duration of the wire in milliseconds; undefined if it is absent. */
export function millis(wire: Wire): number | undefined {
  return wire ? Number(wire.seconds) * 1000 + wire.nanos / 1e6 : undefined;
}

/** Milliseconds as a duration of the wire. */
export function duration(ms: number): Wire {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

/** An enum's name as a word: `MODE_STRONG` is `strong`. */
export function word(name: string, prefix: string): string {
  return name.startsWith(prefix) ? name.slice(prefix.length).toLowerCase() : name;
}

/** A value; text is sent as UTF-8. */
export function bytes(value: Uint8Array | string): Buffer {
  return typeof value === "string" ? Buffer.from(value, "utf8") : Buffer.from(value);
}
