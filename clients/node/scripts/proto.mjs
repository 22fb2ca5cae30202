// Copies the proto files of the checkout into the package: npm run proto.
import { copyFileSync, mkdirSync } from "node:fs";

for (const name of ["state", "registry"]) {
  const file = `quorumor/v1/${name}.proto`;
  mkdirSync(new URL("../proto/quorumor/v1", import.meta.url), { recursive: true });
  copyFileSync(new URL(`../../../proto/${file}`, import.meta.url), new URL(`../proto/${file}`, import.meta.url));
}
