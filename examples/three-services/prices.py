"""One of the three services: it registers itself, finds the other two, and tells over HTTP whom it found."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import quorumor


def find(client: quorumor.Client, service: str) -> dict[str, Any]:
    """Where a service is now and how fresh that is, or why the node doesn't say."""
    try:
        found = client.discover(service)
    except quorumor.QuorumorError as error:
        return {"refused": error.reason}
    receipt = found.receipt
    age = receipt.contact_age
    return {
        "at": [f"{one.instance.address}:{one.instance.port}" for one in found.instances],
        "node": receipt.node_id,
        "level": receipt.got,
        "staleness": receipt.staleness,
        "contact_age_ms": None if age is None else round(age * 1000),
        "alive": receipt.alive,
        "suspect": receipt.suspect,
        "down": receipt.down,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["strong", "eventual"], required=True)
    parser.add_argument("--endpoints", required=True, help="HOST:PORT,...")
    arguments = parser.parse_args()
    # Only the nodes that it was given: what becomes of it is then what becomes of them.
    client = quorumor.Client(arguments.endpoints.split(","), mode=arguments.mode, timeout=2.0, follow_hints=False)

    class Handler(BaseHTTPRequestHandler):
        """Answers with whom it finds."""

        def do_GET(self) -> None:
            """Whatever the path."""
            finds = {service: find(client, service) for service in ("stock", "front")}
            told = {"service": "prices", "language": "Python", "mode": arguments.mode, "registration": prices.state}
            body = json.dumps({**told, "finds": finds}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is logged."""

    # The exit passes the blocks below, which take the instance out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with client, HTTPServer(("127.0.0.1", 0), Handler) as server:
        instance = quorumor.Instance("prices", "prices-1", "127.0.0.1", server.server_port)
        with client.register(instance, ttl=3.0) as prices:
            print(f"http://127.0.0.1:{server.server_port}/", flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
