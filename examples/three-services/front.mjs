/** One of the three services: it registers itself, finds the other two, and tells over HTTP whom it found. */

import { once } from "node:events";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
// In a project of its own: from "quorumor".
import { Client, QuorumorError } from "../../clients/node/dist/src/index.js";

const { mode, endpoints } = parseArgs({ options: { mode: { type: "string" }, endpoints: { type: "string" } } }).values;
if (!mode || !endpoints) {
  console.error("front.mjs --mode strong|eventual --endpoints HOST:PORT,...");
  process.exit(2);
}
// Only the nodes that it was given: what becomes of it is then what becomes of them.
const client = new Client({ endpoints: endpoints.split(","), mode, timeoutMs: 2_000, followHints: false });

/** Where a service is now and how fresh that is, or why the node doesn't say. */
async function find(service) {
  try {
    const { instances, receipt } = await client.discover(service);
    return {
      at: instances.map(({ instance }) => `${instance.address}:${instance.port}`),
      node: Number(receipt.nodeId),
      level: receipt.got,
      staleness: receipt.staleness,
      contact_age_ms: receipt.contactAgeMs ?? null,
      ...receipt.members,
    };
  } catch (error) {
    if (!(error instanceof QuorumorError)) throw error;
    return { refused: error.reason };
  }
}

const server = createServer(async (_, answer) => {
  const [stock, prices] = await Promise.all([find("stock"), find("prices")]);
  const told = { service: "front", language: "JavaScript", mode, registration: front.state, finds: { stock, prices } };
  answer.setHeader("content-type", "application/json").setHeader("connection", "close").end(JSON.stringify(told));
});
await once(server.listen(0, "127.0.0.1"), "listening");
const { port } = server.address();
const front = await client.register({ service: "front", instanceId: "front-1", address: "127.0.0.1", port }, { ttlMs: 3_000 });
console.log(`http://127.0.0.1:${port}/`);

process.once("SIGTERM", async () => {
  server.close();
  await front.close();
  await client.close();
});
