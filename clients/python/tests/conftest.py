"""One cluster of each mode for all tests that leave it whole."""

from __future__ import annotations

from typing import Iterator

import pytest

from cluster import Cluster


@pytest.fixture(scope="session")
def strong() -> Iterator[Cluster]:
    with Cluster("strong") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def eventual() -> Iterator[Cluster]:
    with Cluster("eventual") as cluster:
        yield cluster


@pytest.fixture(params=["strong", "eventual"])
def either(request: pytest.FixtureRequest) -> Cluster:
    cluster = request.getfixturevalue(request.param)
    assert isinstance(cluster, Cluster)
    return cluster
