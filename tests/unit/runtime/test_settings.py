from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import InvalidRequest
from services.runtime.settings import RuntimeSettings, TlsSettings, is_loopback, settings_from_env


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    RuntimeSettings(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.0.0.1", "example.org", "127.example.org"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InvalidRequest, match="token"):
        RuntimeSettings(host=host)
    RuntimeSettings(host=host, data_token="t")


@pytest.mark.parametrize("ports", [(2, 1), (-1, 5), (1, 65_536)])
def test_strange_port_ranges_are_refused(ports: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="range"):
        RuntimeSettings(port_range=ports)


def test_ports_include_both_ends() -> None:
    assert list(RuntimeSettings(port_range=(5, 7)).ports()) == [5, 6, 7]
    assert list(RuntimeSettings().ports()) == [0]


def test_the_environment_is_read_and_arguments_win() -> None:
    env = {
        "ANYPLEX_TOKEN": "a", "ANYPLEX_CONTROL_TOKEN": "b", "ANYPLEX_LOG_LEVEL": "debug",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "ANYPLEX_TLS_CERT": "c", "ANYPLEX_TLS_KEY": "k",
    }  # fmt: skip
    found = settings_from_env(env, data_token="mine")
    assert (found.data_token, found.control_token, found.log_level) == ("mine", "b", "DEBUG")
    assert found.trace_endpoint == "http://127.0.0.1:4317"
    assert found.tls == TlsSettings("c", "k")
    assert settings_from_env({}) == RuntimeSettings()


def test_an_unknown_log_level_is_told() -> None:
    with pytest.raises(InvalidRequest, match="ANYPLEX_LOG_LEVEL: 'LOUD', one of DEBUG, INFO"):
        settings_from_env({"ANYPLEX_LOG_LEVEL": "loud"})


def test_missing_certificates_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="TLS file"):
        TlsSettings(str(tmp_path / "cert"), str(tmp_path / "key")).server_credentials()
