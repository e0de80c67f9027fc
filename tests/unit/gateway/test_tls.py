"""TLS at the public edge, from the client to an answer, with a certificate made here."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anyplex import AsyncClient, Client, Retry, Tls, Unavailable
from graph.profile import GatewaySettings
from services.artifacts import ArtifactStore
from services.gateway.server import GatewayServer
from services.runtime.directory import Entry, Routes
from services.runtime.server import ComponentServer
from services.runtime.settings import RuntimeSettings, settings_from_env
from tests.unit.gateway.test_tracing import system

ONCE = Retry(attempts=1)


@dataclasses.dataclass(frozen=True)
class Pair:
    """A self-signed certificate and its key."""

    cert: Path
    key: Path


def make_pair(folder: Path, name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.key.write_bytes(key.private_bytes(*plain))
    return pair


@pytest.fixture
def server_pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "gateway.test")


@pytest.fixture
def client_pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "client.test")


@pytest.fixture
async def routes(tmp_path: Path) -> AsyncIterator[Routes]:
    """Components of a small system, behind servers of their own: inside a cluster there is no TLS."""
    plan, components = system(ArtifactStore(tmp_path / "store"))
    servers = {name: ComponentServer(component, RuntimeSettings()) for name, component in components.items()}
    versions = frozenset(plan.versions.values())
    routes = Routes(tuple([Entry(n, n, await server.start(), versions=versions) for n, server in servers.items()]))
    routes.update(dataclasses.replace(routes.snapshot, systems={plan.system: plan}))
    yield routes
    for server in servers.values():
        await server.stop(1.0)


async def serve(routes: Routes, **variables: Path) -> GatewayServer:
    runtime = settings_from_env({f"ANYPLEX_TLS_{name.upper()}": str(path) for name, path in variables.items()})
    gateway = GatewayServer(routes, GatewaySettings(port=0), runtime)
    await gateway.start()
    return gateway


async def test_an_answer_comes_through_tls_and_nothing_else_gets_in(
    routes: Routes, server_pair: Pair, client_pair: Pair
) -> None:
    gateway = await serve(routes, cert=server_pair.cert, key=server_pair.key)
    async with AsyncClient(gateway.address, tls=Tls(authority=server_pair.cert)) as client:
        assert (await client.generate("hello", max_tokens=4, seed=1)).usage.completion_tokens == 4

    def blocking() -> list[str]:
        with Client(gateway.address, tls=Tls(authority=server_pair.cert, server_name="gateway.test")) as client:
            return [found.name for found in client.systems()]

    assert await asyncio.to_thread(blocking) == ["llava-1.5"]
    for tls in (
        False,
        True,
        Tls(authority=client_pair.cert),
        Tls(authority=server_pair.cert, server_name="other.test"),
    ):
        async with AsyncClient(gateway.address, tls=tls, retry=ONCE, deadline_s=5.0) as client:
            with pytest.raises(Unavailable):
                await client.generate("hello")
    await gateway.stop(1.0)


async def test_clients_are_asked_for_a_certificate_where_an_authority_is_set(
    routes: Routes, server_pair: Pair, client_pair: Pair
) -> None:
    gateway = await serve(routes, cert=server_pair.cert, key=server_pair.key, ca=client_pair.cert)
    known = Tls(authority=server_pair.cert, certificate=client_pair.cert, key=client_pair.key)
    async with AsyncClient(gateway.address, tls=known) as client:
        assert [found.name for found in await client.systems()] == ["llava-1.5"]
    strangers = (
        Tls(authority=server_pair.cert),
        Tls(authority=server_pair.cert, certificate=server_pair.cert, key=server_pair.key),
    )
    for tls in strangers:
        async with AsyncClient(gateway.address, tls=tls, retry=ONCE, deadline_s=5.0) as client:
            with pytest.raises(Unavailable):
                await client.systems()
    await gateway.stop(1.0)
