"""A target behind TLS whose certificate a private authority has signed."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_running import certificates
from stub_vllm import StubVllm, serving

from harness.commands.preflight import Refused, _target_line
from harness.core.errors import SetupError, TtftError, UsageError
from harness.replay.over_http import connected


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def url(files: tuple[Path, Path, Path]) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[2])
    with serving(StubVllm(), context) as address:
        yield address


def ask(url: str, authority: str) -> str:
    """The error of one request, empty if it was served."""

    async def one() -> str:
        async with connected(url, 20.0, authority) as engine:
            return (await engine.generate("r", [5, 6, 7], 3, {})).error

    return asyncio.run(one())


def refusal(url: str, authority: str) -> str:
    with pytest.raises(TtftError) as told:
        ask(url, authority)
    return str(told.value)


def test_it_is_served_where_its_authority_is_named(url: str, files: tuple[Path, Path, Path]) -> None:
    assert url.startswith("https://") and ask(url, str(files[0])) == ""


def test_it_is_served_where_the_environment_names_its_authority(
    url: str, files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    assert ask(url, "") == ""


def test_a_dry_run_trusts_whom_the_measurement_trusts(url: str, files: tuple[Path, Path, Path]) -> None:
    assert _target_line(url, authority=str(files[0])) == f"target    {url} answers"
    said = _target_line(url)
    assert isinstance(said, Refused) and "--set target_ca=" in said
    assert "is no file of certificates" in _target_line(url, authority="/nowhere/ca.pem")


def test_a_key_that_is_not_set_is_said_and_not_repeated(url: str, files: tuple[Path, Path, Path]) -> None:
    said = _target_line(url, "sk_hunter2", str(files[0]))
    assert isinstance(said, Refused) and "key= names is not set" in said and "hunter2" not in said


def test_an_authority_that_nobody_trusts_is_said_with_the_fix(url: str) -> None:
    said = refusal(url, "")
    assert "is not trusted here (unable to get local issuer certificate)" in said and "--set target_ca=" in said


def test_a_certificate_for_another_name_is_said_with_its_name(url: str, files: tuple[Path, Path, Path]) -> None:
    said = refusal(url.replace("127.0.0.1", "localhost"), str(files[0]))
    assert "has a certificate for 127.0.0.1, not for localhost" in said


def test_what_cannot_be_meant_is_refused(url: str, files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("no certificate")
    for authority in (tmp_path / "none.pem", tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match="is no file of certificates"):
            ask(url, str(authority))
    with pytest.raises(UsageError, match="is for a target behind TLS"):
        ask(url.replace("https", "http"), str(files[0]))
    with serving(StubVllm()) as plain, pytest.raises(SetupError, match="cannot be reached"):
        ask(plain.replace("http", "https"), "")
