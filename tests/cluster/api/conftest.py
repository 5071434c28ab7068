# SPDX-License-Identifier: Apache-2.0
"""One server for tests that leave it as it was but for what has a name of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.cluster.api.serving import SERVICE, Serving, api_token, save, serving, set_up


@dataclass(frozen=True)
class Company:
    """A server with its administrator, and tokens of each role."""

    server: Serving
    store: str
    admin: httpx.Client
    tokens: dict[str, str]


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    store = f"sqlite://{tmp_path_factory.mktemp('cluster')}/cluster.db"
    with serving(store, "--debug") as server, set_up(server) as admin:
        tokens = {role: api_token(admin, role) for role in ("viewer", "operator", "admin")}
        save(admin, SERVICE, "the first one")
        yield Company(server, store, admin, tokens)


@pytest.fixture
def server(company: Company) -> Serving:
    return company.server


@pytest.fixture
def admin(company: Company) -> httpx.Client:
    return company.admin


@pytest.fixture
def operator(company: Company) -> Iterator[httpx.Client]:
    with company.server.client(company.tokens["operator"]) as client:
        yield client


@pytest.fixture
def viewer(company: Company) -> Iterator[httpx.Client]:
    with company.server.client(company.tokens["viewer"]) as client:
        yield client


@pytest.fixture
def nobody(company: Company) -> Iterator[httpx.Client]:
    with company.server.client() as client:
        yield client


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Serving]:
    """A server of its own, that nobody has set up."""
    with serving(f"sqlite://{tmp_path}/cluster.db") as server:
        yield server
