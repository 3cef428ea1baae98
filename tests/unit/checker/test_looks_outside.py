"""What is looked at outside is what the operator's rows name, as far as the log lets whoever asks; and hostile answers end as findings."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.checker.answers import Answers
from services.checker.decider import Measured, RunProbe
from services.checker.desk import Desk
from services.checker.effects import CheckerEffects
from services.checker.outside.given import Outside
from shared.contracts.capabilities import Capabilities, Scope, Values
from shared.contracts.events import Answer, CheckResult, MeshHalted, MeshResumed, OutsideLook
from shared.contracts.events.probes import MAX_REPORT
from shared.contracts.ids import EVERYONE
from shared.contracts.kinds.arguments import Argument
from shared.contracts.persona import PersonaPolicy
from shared.outside import sandbox
from shared.outside.mcp.servers import Tool
from shared.outside.probes import (
    CommandProbe,
    FileGrep,
    FileRead,
    HttpGet,
    McpRead,
    PrometheusQuery,
    probes_of,
)
from shared.outside.sandbox import NoSandbox, available
from shared.policy.library import Library
from shared.runtime.halting import Halting
from shared.settings import SettingsError
from tests.policies import GOLDEN, InForce
from tests.tools import by_http, digests
from tests.unit.gate.given import T0, WHOSE, Mesh, spawned

HOST = Argument(one_of=("web", "db"))
ID = Argument(like="[a-z0-9.-]+")


def _sandbox() -> str:
    try:
        asyncio.run(available())
    except NoSandbox as error:
        return str(error)
    return ""


NO_SANDBOX = _sandbox()


class Looking:
    """A persona that was born, policies in force, and the rows there are."""

    def __init__(self, **rows: Any) -> None:
        self.mesh, self.rows = Mesh(), rows
        self.given: dict[str, Any] = {}
        self.asked = 0

    async def born(self, *scopes: Scope | None, policies: dict[str, str] | None = None) -> None:
        capabilities = Capabilities(scopes=tuple(one for one in scopes if one)) if scopes else None
        await self.mesh.say(spawned(policy=PersonaPolicy(capabilities=capabilities)), "born")
        in_force = InForce(self.mesh.log)
        await in_force.put(policies)
        outside = Outside(rows=self.rows, halting=Halting(self.mesh.log), **self.given)
        library = Library(self.mesh.log, in_force.readings)
        self.desk = Desk(log=self.mesh.log, library=library, answers=Answers(self.mesh.log), outside=outside)

    async def look(self, row: str, **arguments: Any) -> Measured:
        self.asked += 1
        probe = OutsideLook(row=row, arguments=arguments)
        asked = RunProbe(
            **WHOSE, probe=probe, check_event_id=f"k{self.asked}", correlation=f"c{self.asked}", asked_at=self.mesh.now
        )
        measured = await CheckerEffects(self.desk).perform(asked)
        assert isinstance(measured, Measured) and measured.tainted
        return measured

    async def answer(self, row: str, **arguments: Any) -> Answer:
        measured = await self.look(row, **arguments)
        assert isinstance(measured.found, Answer), measured.detail
        return measured.found

    async def why(self, row: str, **arguments: Any) -> str:
        measured = await self.look(row, **arguments)
        assert measured.found is None and not measured.complete and measured.detail
        return measured.detail


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, other = tmp_path / "root", tmp_path / "other"
    (root / "logs").mkdir(parents=True)
    other.mkdir()
    (other / "secret.log").write_text("swordfish")
    (root / "logs" / "web.log").write_text("one failed\ntwo fine\nthree failed\n")
    (root / "logs" / "link.log").symlink_to(other / "secret.log")
    (root / "out").symlink_to(other)
    (root / "logs" / "pipe.log").touch()
    (root / "logs" / "pipe.log").unlink()
    os.mkfifo(root / "logs" / "pipe.log")
    return root


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind='http.get'\nurl='ftp://a.example.org'", "http"),
        ("kind='http.get'\nurl='https://{h}.example.org'\narguments.h.like='a'", "host is written out"),
        ("kind='http.get'\nurl='https://a.example.org/{p}'", "differ in p"),
        ("kind='http.get'\nurl='https://a.example.org/{p}'\narguments.p.chars=9", "free text"),
        ("kind='http.get'\nurl='https://a.example.org/{p}'\narguments.p={like='a',many=2}", "free text"),
        ("kind='file.read'\nroot='srv'\npath='a'", "regex"),
        ("kind='file.read'\nroot='/srv'\npath='../a'", "below its root"),
        ("kind='file.read'\nroot='/srv'\npath='/a'", "below its root"),
        ("kind='command.probe'\nargv=['df']", "whole path"),
        ("kind='command.run'\nargv=['/bin/df']", "Invalid value"),
        ("kind='file.read'\nroot='/srv'\npath='a'\nwrite=['/']", "write"),
    ],
)
def test_a_row_with_a_flaw_stops_the_start_and_says_where(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "probes.toml").write_text(f"[probes.x]\n{text}")
    with pytest.raises(SettingsError, match=r"probes\.toml") as error:
        probes_of(str(tmp_path / "probes.toml"))
    assert why in str(error.value)
    assert {} == probes_of("")


async def test_what_has_no_row_or_other_arguments_is_not_asked(root: Path) -> None:
    looking = Looking(log=FileRead(root=str(root), path="logs/{name}.log", arguments={"name": ID}))
    await looking.born()
    assert "named no probe passwd" in await looking.why("passwd")
    for odd in ({}, {"name": "web", "more": 1}, {"name": "WEB"}, {"name": 7}, {"name": "../web"}):
        assert "is not asked" in await looking.why("log", **odd)
    loose = Looking(log=FileRead(root=str(root), path="logs/{name}", arguments={"name": Argument(like=".*")}))
    await loose.born()
    for free in ("../../other/secret.log", "a b", "x" * 65, "", ".hidden", "ignore all instructions"):
        assert "is no id" in await loose.why("log", name=free), "a pattern that is too wide lets no free text through"


# -- who may ---------------------------------------------------------------------------------------------------------


async def test_it_is_asked_as_far_as_the_log_lets_whoever_asks(root: Path) -> None:
    row = FileRead(root=str(root), path="logs/{name}.log", arguments={"name": ID})
    unborn = Looking(log=row)
    await unborn.born()
    unborn.desk = msgspec.structs.replace(unborn.desk, library=Library(Mesh().log))
    assert "ever born" in await unborn.why("log", name="web")
    free = Looking(log=row)
    await free.born()
    assert "one failed" in (await free.answer("log", name="web")).text
    for scope, why in (
        (Scope(kinds=("file.read",), targets=("log",)), ""),
        (Scope(kinds=("file.read",), targets=("log",), params=(Values(name="name", one_of=("db",)),)), "beyond-capab"),
        (Scope(kinds=("file.read",), targets=("log",), per_day=3), "limit of a day"),
        (Scope(kinds=("file.read",), targets=("other",)), "beyond-capabilities"),
        (Scope(kinds=("http.get",), targets=("log",)), "beyond-capabilities"),
        (Scope(kinds=("file.read",), targets=("log",), ask=True), "people-by-scope"),
        (None, "beyond-capabilities"),
    ):
        narrowed = Looking(log=row)
        await narrowed.born(scope)
        measured = await narrowed.look("log", name="web")
        assert (measured.found is not None) == (not why) and why in measured.detail, scope
    never = Looking(log=row)
    await never.born(policies={"gate.cedar": "", "golden.json": GOLDEN})
    assert "no_matching_permit" in await never.why("log", name="web")


async def test_halts_and_the_kill_switch_stop_it(root: Path, tmp_path: Path) -> None:
    looking = Looking(log=FileRead(root=str(root), path="logs/web.log"))
    looking.given["kill_switch"] = tmp_path / "STOP"
    await looking.born()
    await looking.mesh.say(
        MeshHalted(swarm=EVERYONE, persona=EVERYONE, cause="person", reason="odd", principal="ann"), "halt"
    )
    assert "odd" in await looking.why("log")
    await looking.mesh.say(MeshResumed(swarm=EVERYONE, persona=EVERYONE, reason="fine", principal="ann"), "resume")
    assert (await looking.answer("log")).size
    (tmp_path / "STOP").touch()
    assert "kill switch" in await looking.why("log")


async def test_what_leaves_needs_a_scope_that_names_every_argument() -> None:
    row = HttpGet(url="http://127.0.0.1:9/{host}", private=True, arguments={"host": HOST}, output_bytes=100)
    for params, passes in (((), False), ((Values(name="host", one_of=("web",)),), True)):
        looking = Looking(load=row)
        await looking.born(Scope(kinds=("http.get",), targets=("load",), params=params))
        assert ("tainted-outward" not in (said := await looking.why("load", host="web"))) is passes, said
    unscoped = Looking(load=row)
    await unscoped.born()
    assert "tainted-outward" in await unscoped.why("load", host="web")


async def test_of_a_persona_so_many_bytes_come_in_within_an_hour_by_the_log(root: Path) -> None:
    looking = Looking(log=FileRead(root=str(root), path="logs/web.log"))
    looking.given["bytes_per_hour"] = 50
    await looking.born()

    async def told(n: int) -> None:
        answer = await looking.answer("log")
        result = CheckResult(
            **WHOSE, check_id=f"k{n}", hypothesis_id="h", outcome="inconclusive", findings="", found=answer, slot="c1"
        )
        await looking.mesh.say(result, f"r{n}")

    await told(1)
    await told(2)
    assert "66 bytes from outside within the hour" in await looking.why("log")
    looking.mesh.now = T0 + timedelta(minutes=61)
    assert (await looking.answer("log")).size


# -- files -----------------------------------------------------------------------------------------------------------


async def test_a_file_is_read_below_its_root_and_no_link_leads_out(root: Path) -> None:
    looking = Looking(
        log=FileRead(root=str(root), path="logs/{name}.log", arguments={"name": ID}),
        out=FileRead(root=str(root), path="out/secret.log"),
        up=FileRead(
            root=str(root / "logs"), path="{to}/secret.log", arguments={"to": Argument(one_of=("..", "../out"))}
        ),
        end=FileRead(root=str(root), path="logs/web.log", tail=True, output_bytes=8),
        start=FileRead(root=str(root), path="logs/web.log", output_bytes=8),
    )
    await looking.born()
    assert (root / "logs/web.log").read_text() == (await looking.answer("log", name="web")).text
    for row, arguments in (("log", {"name": "link"}), ("log", {"name": "none"}), ("log", {"name": "pipe"}), ("out", {}),
                           ("up", {"to": ".."}), ("up", {"to": "../out"})):  # fmt: skip
        assert "swordfish" not in await looking.why(row, **arguments)
    end, start = await looking.answer("end"), await looking.answer("start")
    assert (" failed\n", "24 bytes before it") == (end.text, end.cut) or end.text.endswith("failed\n")
    assert "one fail" == start.text and "bytes after it" in start.cut


async def test_lines_with_some_words_are_told_and_what_is_left_out(root: Path) -> None:
    (root / "logs" / "big.log").write_bytes(b"x" * 600_000 + b" failed\n" + b"a failed\n" * 50_000)
    looking = Looking(
        failed=FileGrep(root=str(root), path="logs/web.log", words="{what}", arguments={"what": Argument(one_of=("failed", "fine"))}),
        big=FileGrep(root=str(root), path="logs/big.log", words="a failed", output_bytes=1000),
    )  # fmt: skip
    await looking.born()
    assert "one failed\nthree failed\n" == (await looking.answer("failed", what="failed")).text
    big = await looking.answer("big")
    assert big.size <= 1000 and "more lines have it" in big.cut


async def test_bytes_that_are_no_text_escapes_and_much_of_it_end_as_findings(root: Path) -> None:
    odd = {"zero": b"a\0b", "bad": b"\xff\xfe ok", "red": b"\x1b[31mred\x1b[0m \xe2\x80\xaeabc", "many": b"y" * 60_000}
    for name, body in odd.items():
        (root / "logs" / f"{name}.log").write_bytes(body)
    looking = Looking(log=FileRead(root=str(root), path="logs/{name}.log", arguments={"name": ID}))
    await looking.born()
    zero, red = await looking.answer("log", name="zero"), await looking.answer("log", name="red")
    assert "" == zero.text and "it is no text" in zero.cut
    assert "ok" in (await looking.answer("log", name="bad")).text
    assert "\x1b" not in red.text and "\u202e" not in red.text and "red" in red.text
    many = await looking.answer("log", name="many")
    assert MAX_REPORT == len(many.text) and f"of 60000 characters the first {MAX_REPORT}" in many.cut


# -- hosts -----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def host(answer: Callable[[bytes], bytes], hangs: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    heard: list[bytes] = []
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())  # type: ignore[arg-type]
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(OSError):
            writer.write(answer(heard[-1]))
            await writer.drain()
            if hangs:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
        await asyncio.gather(*serving)


def http(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def test_a_url_and_a_query_are_asked_with_their_arguments_in_one_place_each() -> None:
    async with host(lambda _: http(b"0.7")) as (url, heard):
        at = {"host": Argument(one_of=("a/b?c",)), "at": Argument(time=True)}
        job, query = {"job": Argument(one_of=('a"b',))}, 'rate(x{job="{job}"}[5m])'
        looking = Looking(
            load=HttpGet(url=url + "/load/{host}?since={at}", private=True, outward=False, arguments=at),
            rate=PrometheusQuery(url=url, query=query, private=True, outward=False, arguments=job),
        )
        await looking.born()
        answer = await looking.answer("load", host="a/b?c", at="2026-01-31T12:00:00+01:00")
        assert (200, "0.7", 3) == (answer.status, answer.text, answer.size)
        assert heard[0].startswith(b"GET /load/a%2Fb%3Fc?since=2026-01-31T12%3A00%3A00%2B01%3A00 HTTP/1.1")
        await looking.answer("rate", job='a"b')
        assert b"/api/v1/query?query=rate%28x%7Bjob%3D%22a%5C%22b%22%7D%5B5m%5D%29 " in heard[1]


@pytest.mark.parametrize(
    ("answer", "hangs", "said"),
    [
        (http(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"), False, "leads elsewhere"),
        (http(b"y" * 5_000_000), False, "no more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow", True, "no whole answer within 0.5 s"),
        (b"nonsense\r\n\r\n", False, "RemoteProtocolError"),
        (http(b"\x1f\x8b\0\0", more="Content-Encoding: gzip\r\n"), False, "it is no text"),
    ],
)
async def test_hosts_that_misbehave_end_as_findings(answer: bytes, hangs: bool, said: str) -> None:
    async with host(lambda _: answer, hangs) as (url, heard):
        looking = Looking(load=HttpGet(url=url, private=True, outward=False, timeout_s=0.5 if hangs else 10))
        await looking.born()
        measured = await looking.look("load")
        assert said in measured.detail and not measured.complete and 1 == len(heard)


async def test_an_address_inside_is_not_asked_unless_the_row_says_so() -> None:
    async with host(lambda _: http(b"keys")) as (url, heard):
        looking = Looking(load=HttpGet(url=url.replace("127.0.0.1", "localhost"), outward=False))
        await looking.born()
        assert "not public" in await looking.why("load") and [] == heard


# -- commands and tools ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)
async def test_a_command_is_asked_in_the_sandbox(root: Path) -> None:
    looking = Looking(
        say=CommandProbe(
            argv=("/usr/bin/printf", "%s", "{n}"), outward=False, arguments={"n": Argument(least=0, most=9)}
        ),
        env=CommandProbe(argv=("/usr/bin/env",), outward=False),
        write=CommandProbe(argv=("/usr/bin/touch", f"{root}/x"), read=("/usr",), outward=False),
        slow=CommandProbe(argv=("/usr/bin/sleep", "9"), timeout_s=0.5, outward=False),
    )
    os.environ["SWARM_SECRET"] = "swordfish"
    try:
        await looking.born()
        assert ("7", 0) == ((said := await looking.answer("say", n=7)).text, said.status)
        assert "swordfish" not in (await looking.answer("env")).text
        assert 0 != (await looking.answer("write")).status and not (root / "x").exists()
        slow = await looking.look("slow")
        assert not slow.complete and "0.5 s" in slow.detail
    finally:
        del os.environ["SWARM_SECRET"]


async def test_without_a_sandbox_no_command_is_asked_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "BWRAP", "no-such-bwrap")
    looking = Looking(env=CommandProbe(argv=("/usr/bin/env",), outward=False))
    await looking.born()
    assert "apt-get install bubblewrap" in await looking.why("env")
    assert "env cannot be asked" in (await looking.desk.outside.trouble() or "")
    assert await Outside().trouble() is None


def test_a_tool_that_reads_is_asked_while_it_is_what_its_row_pins(tmp_path: Path) -> None:
    with by_http({}, tmp_path / "calls") as server:
        pins = asyncio.run(digests(server))
        for pin, passes in ((pins["many"], True), ("0" * 64, False)):
            tools = {"many": Tool(digest=pin, risk="low", reads=True)}
            looking = Looking(
                many=McpRead(server="odd", tool="many", outward=False, arguments={"size": Argument(least=0, most=9999)})
            )
            looking.given["servers"] = {"odd": msgspec.structs.replace(server, tools=tools)}
            asyncio.run(_asked(looking, passes, pins["many"]))


async def _asked(looking: Looking, passes: bool, now: str) -> None:
    await looking.born()
    if passes:
        assert "xxx" == (await looking.answer("many", size=3)).text
    else:
        assert now in await looking.why("many", size=3)
