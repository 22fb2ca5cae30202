"""The checked-in messages are what the proto files of the checkout give."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import generate  # noqa: E402


def test_the_messages_are_those_of_the_proto_files(tmp_path: Path) -> None:
    try:
        version = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version != generate.pinned_version():
        assert not os.environ.get("CI"), f"grpcio-tools is {version}"
        pytest.skip(f"grpcio-tools is {version}, not {generate.pinned_version()}")
    generate.generate(tmp_path)
    made = sorted(tmp_path.glob("quorumor/v1/*"))
    assert len(made) == 4
    for file in made:
        checked_in = generate.HERE / file.relative_to(tmp_path)
        assert checked_in.read_text() == file.read_text(), f"{checked_in.name}: run `python -m generate`"
