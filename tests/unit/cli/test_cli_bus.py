"""Which broker a command talks to: what was said, a context of the `nats` CLI, or the mesh of the data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from cyclopts import App

from services.cli.commands.looking.far import _Service, services
from services.cli.terminal.bus import LOCAL, Bus
from services.cli.terminal.login import Login, connect, login
from services.cli.terminal.target import Stop, Target
from services.supervisor.running.state import write_record
from shared.contracts.services import SERVICES
from shared.crypto import new_seed, public_key
from tests.broker import Broker
from tests.tls import pair
from tests.unit.cli.test_cli_commands import record

URL = "nats://broker:4222"
AS_WRITTEN = {
    "description": "",
    "url": URL,
    "socks_proxy": "",
    "token": "",
    "user": "",
    "password": "",
    "creds": "",
    "nkey": "/keys/operator.nk",
    "cert": "",
    "key": "",
    "ca": "",
    "nsc": "",
    "jetstream_domain": "",
    "jetstream_api_prefix": "",
    "jetstream_event_prefix": "",
    "inbox_prefix": "_INBOX_people",
    "user_jwt": "",
    "color_scheme": "",
    "tls_first": False,
    "windows_ca_certs_match": None,
}
"""All the fields `nats context add` writes."""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A folder in which no mesh has run, and no context is known."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("services.cli.terminal.login.CONNECT_S", 0.3)
    yield Target(data=tmp_path / "data")
    structlog.reset_defaults()


def context(target: Target, **fields: object) -> None:
    folder = target.data.parent / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prod.json").write_text(json.dumps({**AS_WRITTEN, **fields}))


def test_a_context_says_where_with_which_key_and_inbox(nowhere: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    context(nowhere)
    named = Bus(nats_context="prod")
    assert Login(url=URL, seed=Path("/keys/operator.nk"), inbox="_INBOX_people") == login(named, nowhere)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("KEYS", "/k")
    for nkey, path in (("~/o.nk", "/home/ada/o.nk"), ("$KEYS/o.nk", "/k/o.nk"), ("file:///o.nk", "/o.nk")):
        context(nowhere, nkey=nkey, inbox_prefix="")
        assert Login(url=URL, seed=Path(path), inbox="_INBOX_operator") == login(named, nowhere)


async def test_a_context_with_certificates_is_spoken_to_over_tls_alone(nowhere: Target, tmp_path: Path) -> None:
    (shown, key), (mine, my_key) = (pair(tmp_path, name) for name in ("broker", "client"))
    seed, tls = new_seed(), f'tls {{\n cert_file: "{shown}"\n key_file: "{key}"\n ca_file: "{mine}"\n verify: true\n}}'
    (tmp_path / "o.nk").write_text(seed)
    user = f"authorization {{ users: [ {{ nkey: {public_key(seed)} }} ] }}"
    broker = Broker(tmp_path, more=f"{tls}\n{user}")
    await broker.start()
    files = {"nkey": str(tmp_path / "o.nk"), "cert": str(mine), "key": str(my_key)}
    try:
        context(nowhere, url=broker.url, ca=str(shown), **files)
        await (await connect(login(Bus(nats_context="prod"), nowhere), "test")).close()
        context(nowhere, url=broker.url.replace("nats://", "tls://"), **files)
        await (await connect(login(Bus(nats_context="prod", nats_ca=shown), nowhere), "test")).close()
        with pytest.raises(Stop, match="CERTIFICATE_VERIFY_FAILED"):
            await connect(login(Bus(nats_context="prod"), nowhere), "test")
        with pytest.raises(Stop, match="want certificates in PEM"):
            await connect(login(Bus(nats_context="prod", nats_ca=tmp_path / "no.pem"), nowhere), "test")
    finally:
        broker.kill()


def test_what_was_said_goes_before_the_context_and_that_before_the_mesh(nowhere: Target) -> None:
    context(nowhere)
    nowhere.data.mkdir()
    write_record(nowhere.data, record(nowhere.data, os.getpid()))
    said = Bus(nats_url="nats://said:1", nats_seed=Path("said.nk"), nats_context="prod")
    assert ("nats://said:1", Path("said.nk")) == ((found := login(said, nowhere)).url, found.seed)
    assert (URL, Path("said.nk")) == (
        (found := login(Bus(nats_seed=Path("said.nk"), nats_context="prod"), nowhere)).url,
        found.seed,
    )
    mesh = Login(url="nats://127.0.0.1:1", seed=nowhere.data / "operator.nk", inbox="_INBOX_operator")
    assert mesh == login(Bus(), nowhere)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"creds": "/ada.creds"}, "needs creds, and this command logs in with an nkey alone"),
        ({"user": "ada", "tls_first": True}, "needs user and tls_first"),
        ({"nkey": "op://vault/key"}, "'op://vault/key' is no file"),
        ({"nkey": ""}, "names no nkey; say --nats-seed"),
        ({"url": 5}, "cannot be read"),
    ],
)
def test_a_context_that_needs_more_is_refused_rather_than_half_used(
    nowhere: Target, fields: dict[str, object], why: str
) -> None:
    context(nowhere, **fields)
    with pytest.raises(Stop, match=why):
        login(Bus(nats_context="prod"), nowhere)


@pytest.mark.parametrize(
    ("bus", "url", "why"),
    [
        (Bus(nats_context="tset"), None, "there is no context 'tset'"),
        (Bus(nats_context="../prod"), None, "is no name of a context"),
        (Bus(nats_url=URL), None, "say --nats-seed"),
        (Bus(), "http://elsewhere", "say --nats-url and --nats-seed, or --nats-context"),
        (Bus(), None, "no mesh runs on"),
    ],
)
def test_what_is_missing_is_told(nowhere: Target, bus: Bus, url: str | None, why: str) -> None:
    with pytest.raises(Stop, match=why):
        login(bus, Target(data=nowhere.data, url=url))


def test_a_service_that_does_not_answer_is_named_and_others_are_not_ours() -> None:
    there = [_Service(id="x", name=name.replace("_", "-"), version="1", description=f"{name}-1") for name in SERVICES]
    assert services(there).ok and len(SERVICES) == services(
        [*there, _Service(id="x", name="shop", version="3")]
    ).detail.count("-1 1")
    lacking = services([one for one in there if one.name != "policy-gate"])
    assert lacking.ok is False and lacking.detail.startswith("no policy_gate; ")
    assert "none answers" in services([]).detail


def test_tls_is_told_by_the_names_services_read(monkeypatch: pytest.MonkeyPatch, nowhere: Target) -> None:
    told = {"CA": "/tls/ca.pem", "CERT": "/tls/own.pem", "KEY": "/tls/own.key"}
    for name, file in told.items():
        monkeypatch.setenv(f"SWARM_NATS_{name}_FILE", file)
    monkeypatch.setenv("SWARM_NATS_URL", URL)
    monkeypatch.setenv("SWARM_NATS_SEED_FILE", "/keys/operator.nk")
    app = App()

    @app.default
    def command(*, bus: Bus = LOCAL) -> Bus:
        return bus

    bus = app([], result_action="return_value")
    to = login(bus, nowhere)
    assert ("/tls/ca.pem", "/tls/own.pem", "/tls/own.key") == (to.ca, to.cert, to.key)
