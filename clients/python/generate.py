"""Makes the messages under quorumor/v1 from the proto files of the checkout.

    python -m pip install '.[dev]'
    python -m generate
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"
FILES = ["quorumor/v1/state.proto", "quorumor/v1/registry.proto"]


def generate(into: Path) -> None:
    """Writes the modules and their types into a folder."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={into}", f"--pyi_out={into}", *FILES]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def pinned_version() -> str:
    """The version of grpcio-tools that the checked-in modules are made by."""
    found = re.search(r"grpcio-tools==([\d.]+)", (HERE / "pyproject.toml").read_text())
    assert found, "pyproject.toml pins grpcio-tools"
    return found.group(1)


if __name__ == "__main__":
    generate(HERE)
    sys.stdout.write("made quorumor/v1\n")
