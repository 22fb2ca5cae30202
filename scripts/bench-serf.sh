#!/bin/sh
# Measures eventual mode beside Serf on this machine: sees to it that a Serf is there, builds, and runs
# `quorumor bench gossip`, with a loopback of its own where the system allows that. Further arguments go to it. Leave the
# machine alone meanwhile.
#
#   scripts/bench-serf.sh
#   SERF=/usr/bin/serf scripts/bench-serf.sh --nodes 100 --idle 60s --markdown
set -eu
cd "$(dirname "$0")/.."

SERF=${SERF:-serf}
if ! command -v "$SERF" >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "no serf, and no apt-get to install it; name yours with SERF=/path/to/serf" >&2
        exit 3
    fi
    apt-get update -qq
    apt-get install -y -qq serf >/dev/null
fi
"$SERF" version | head -n 1

cargo build --release --locked -p quorumor
rm -rf target/bench-gossip-data target/bench-gossip.jsonl
set -- target/release/quorumor bench gossip --serf-binary "$SERF" --dir target/bench-gossip-data \
    --json target/bench-gossip.jsonl "$@"
if unshare --map-root-user --net ip link set lo up 2>/dev/null; then
    # In a network of its own nobody else's packets are counted.
    exec unshare --map-root-user --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
fi
echo "no network namespace: other programs' packets on the loopback are counted too" >&2
exec "$@"
