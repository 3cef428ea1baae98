"""Whatever a URL is made to look like, no socket is opened to an address that is not public: a corpus of ways in.

Each is listed by the operator as if it were meant, so that nothing but the addresses themselves stands in the way; and none is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.actuator.hands.outbound import Outbound
from services.checker.outside.given import Outside
from services.checker.outside.looking import Unanswered, looked
from shared.contracts.kinds.arguments import Argument
from shared.contracts.kinds.http import HttpRequest, endpoint, url_trouble
from shared.outside.addresses import is_public
from shared.outside.mcp.servers import Server, servers_of
from shared.outside.mcp.session import NoServer, talk
from shared.outside.probes import HttpGet, probes_of, url_of
from shared.settings import SettingsError
from tests.unit.gate.actuator.test_outbound import sink

pytestmark = pytest.mark.plain_loop
GET = HttpRequest()
LITERALS = (
    # loopback, as inet_aton reads it
    "http://127.0.0.1/", "http://127.0.0.1:80/", "http://127.1/", "http://127.0.1/", "http://127.127.127.127/",
    "http://2130706433/", "http://0x7f000001/", "http://0x7F.0.0.1/", "http://0x7f.1/", "http://017700000001/",
    "http://0177.0.0.1/", "http://0177.0x0.0.1/", "http://00000177.1/", "http://127.0.0.1./", "http://0/",
    "http://0.0.0.0/", "http://0x0/", "http://00/", "http://LOCALHOST/", "http://localhost./", "http://localhost:8222/",
    # and as IPv6
    "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/", "http://[64:ff9b:1::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2002:a9fe:a9fe::]/",
    "http://[2001:0:7f00:1::1]/", "http://[fe80::1]/", "http://[fd00:ec2::254]/", "http://[fec0::1]/", "http://[ff02::1]/",
    # metadata of clouds
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
    "http://0xA9.0xFE.0xA9.0xFE/", "http://169.254.43518/", "http://169.16689662/", "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/", "http://100.100.100.200/", "http://192.0.0.192/", "http://168.63.129.16.0/",
    # inside
    "http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://100.64.0.1/",
    "http://198.18.0.1/", "http://192.0.2.1/", "http://224.0.0.1/", "http://239.255.255.250:1900/", "http://240.0.0.1/",
    "http://255.255.255.255/", "http://012.0.0.1/", "http://0xac100001/", "http://3232235777/",
    "https://127.0.0.1/", "https://[::1]:4222/",
)  # fmt: skip
MISLEADING = (
    # whose host is whose
    "http://example.org@127.0.0.1/", "http://example.org:80@127.0.0.1/", "http://127.0.0.1@example.org/", "http://@127.0.0.1/",
    "http://example.org%40127.0.0.1/", "http://example.org%2f@127.0.0.1/", "http://127.0.0.1\\@example.org/",
    "http://example.org\\.127.0.0.1/", "http:\\\\127.0.0.1/", "http:/127.0.0.1/", "http:127.0.0.1", "//127.0.0.1/",
    "http:///127.0.0.1/", "http://example.org#@127.0.0.1/", "http://127.0.0.1#.example.org/", "http://example.org/#x",
    # digits, dots and letters of other scripts, which IDNA folds
    "http://①②⑦.⓪.⓪.①/", "http://１２７.０.０.１/", "http://127。0。0。1/", "http://127．0．0．1/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "http://ｌocalhost/",
    "http://loca\u00adlhost/", "http://local\u200bhost/", "http://exam\u202eple.org/",
    # what ends a line, a host, a text
    "http://example.org/\r\nHost: 127.0.0.1", "http://example.org\r\n/", "http://example.org/ HTTP/1.1\r\nX: y", "http://exa\tmple.org/",
    "http://example.org/\x00", "http://example.org\x00.127.0.0.1/", " http://127.0.0.1/", "http://127.0.0.1 /", "http://127.0.0.1%00/",
    "http://127.0.0.1%20/", "http://[::1%25lo]/", "http://[fe80::1%lo]/", "http://[::1]%2f/", "http://[::1", "http://::1/",
    # other schemes, and ports that are none
    "file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "dict://127.0.0.1:11211/", "ftp://127.0.0.1/", "ldap://127.0.0.1/", "data:,x",
    "jar:http://127.0.0.1!/", "unix:/run/docker.sock", "HTTP+UNIX://run/", "javascript:0", "http://127.0.0.1:0/", "http://127.0.0.1:65536/",
    "http://127.0.0.1:-1/", "http://127.0.0.1:80a/", "http://127.0.0.1:８０/", "http://", "http://:80/", "",
)  # fmt: skip
HOSTILE = (
    "a", "../../admin", "..", "@127.0.0.1/", "//127.0.0.1/", "/..//", "\\\\127.0.0.1\\", "?x=1", "#",
    "&admin=1", "%2e%2e%2f", "a\r\nHost: b",
    "http://127.0.0.1/", "{page}", "a;b", "a b", "\x00", "\u2028", "①②⑦", "a" * 65, "",
)  # fmt: skip
"""What a look might be told to look at."""
NAMES = {
    "localtest.me": ("127.0.0.1",),
    "127.0.0.1.nip.io": ("127.0.0.1",),
    "metadata.google.internal": ("169.254.169.254",),
    "six.example.org": ("::1",),
    "mapped.example.org": ("::ffff:10.0.0.1",),
    "nat64.example.org": ("64:ff9b::a00:1",),
    "zone.example.org": ("fe80::1%lo",),
    "mixed.example.org": ("93.184.216.34", "10.0.0.1"),
    "mixed6.example.org": ("2606:4700:4700::1111", "fd00::1"),
    "zero.example.org": ("0.0.0.0",),
}
"""Names whose owner has them lead inside."""


class Wire:
    """What the interpreter itself says of sockets: addresses that were to be connected to, while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.connects: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]
            self.connects.append(str(address[0] if isinstance(address, tuple) else address))

    @property
    def inside(self) -> list[str]:
        return [address for address in self.connects if not is_public(address)]


WIRE = Wire()
sys.addaudithook(WIRE.hear)  # for good: a hook cannot be taken away


@pytest.fixture
def wire() -> Iterator[Wire]:
    WIRE.connects.clear()
    WIRE.on = True
    yield WIRE
    WIRE.on = False


def listed(url: str) -> Outbound:
    """Whatever the URL names is on the list."""
    return Outbound(frozenset({endpoint(url)}))


async def send(outbound: Outbound, url: str) -> Any:
    return await outbound.send(url, GET, claim="c", timeout_s=5.0)


@pytest.mark.parametrize("url", LITERALS)
async def test_an_address_that_is_not_public_is_not_connected_to_however_it_is_written_and_though_it_is_listed(
    wire: Wire, url: str
) -> None:
    outcome = await send(listed(url), url)
    assert "failure" == outcome.outcome and outcome.error in ("private_address", "not_connected"), outcome
    assert [] == wire.connects
    assert "host_not_allowed" == (await send(Outbound(), url)).error and [] == wire.connects


async def by_look(url: str) -> str:
    """Why a checker does not get it, by a row that names it."""
    row = HttpGet(url=url)
    try:
        await looked(Outside(rows={"there": row}), row, {})
    except (Unanswered, OSError) as error:
        return str(error)
    return ""


async def by_tool(url: str) -> str:
    """Why no MCP server is talked to there, by a row that names it."""
    try:
        await talk(Server(url=url), 5.0, lambda begun: begun.tools())
    except NoServer as error:
        return str(error)
    return ""


@pytest.mark.parametrize("reach", [by_look, by_tool])
@pytest.mark.parametrize("url", LITERALS)
async def test_neither_a_look_nor_a_tool_is_got_there(
    wire: Wire, url: str, reach: Callable[[str], Awaitable[str]]
) -> None:
    assert await reach(url) and [] == wire.connects


@pytest.mark.parametrize("reach", [by_look, by_tool])
@pytest.mark.parametrize("name", NAMES)
async def test_nor_by_a_name_that_leads_inside(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, name: str, reach: Callable[[str], Awaitable[str]]
) -> None:
    answers(monkeypatch, NAMES[name])
    assert await reach(f"http://{name}/") and [] == wire.connects


@pytest.mark.parametrize("url", MISLEADING, ids=range(len(MISLEADING)))
def test_no_row_of_the_operator_has_what_could_be_read_in_two_ways(tmp_path: Path, url: str) -> None:
    file = tmp_path / "rows.toml"
    for table, read in (('probes.there]\nkind = "http.get"', probes_of), ("servers.there]", servers_of)):
        file.write_text(f"[{table}\nurl = {json.dumps(url)}\n", encoding="utf-8")
        with pytest.raises(SettingsError):
            read(str(file))


@pytest.mark.parametrize("value", HOSTILE)
def test_no_argument_of_a_look_changes_where_it_goes(value: str) -> None:
    """Rows take ids alone; and what is no id would still be one piece of the path, or one value."""
    for url in ("https://api.example.org/v1/{page}", "https://api.example.org/v1?page={page}"):
        row = HttpGet(url=url, arguments={"page": Argument(like=".*")})
        assert row.trouble({"page": value}) or value == "a"
        whole = urlsplit(url_of(row, {"page": value}))
        assert ("https", "api.example.org", "") == (whole.scheme, whole.netloc, whole.fragment)
        assert whole.path.count("/") == url.removeprefix("https://api.example.org").count("/"), whole
        assert httpx.URL(whole.geturl()).host == "api.example.org"


@pytest.mark.parametrize("url", MISLEADING, ids=range(len(MISLEADING)))
async def test_what_could_be_read_in_two_ways_is_no_url(wire: Wire, url: str) -> None:
    assert url_trouble(url), url
    everything = Outbound(frozenset({"example.org:80", "127.0.0.1:80", "localhost:80", "[::1]:80"}))
    assert "bad_target" == (await send(everything, url)).error and [] == wire.connects


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_leads_inside_is_not_connected_to(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    answers(monkeypatch, NAMES[name])
    assert "private_address" == (await send(listed(f"http://{name}/"), f"http://{name}/")).error
    assert [] == wire.connects


async def test_a_name_that_leads_elsewhere_when_asked_again_is_asked_once(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch, ("192.0.2.7",), ("127.0.0.1",))  # the first is nobody's; it is taken for public here
    monkeypatch.setattr("services.actuator.hands.outbound.is_public", lambda address: address == "192.0.2.7")
    await listed("http://rebind.example.org/").send("http://rebind.example.org/", GET, claim="c", timeout_s=0.5)
    assert ["rebind.example.org"] == asked and ["192.0.2.7"] == wire.connects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["http://169.254.169.254/", "//127.0.0.1/", "http://[::1]/", "file:///etc/passwd"])
async def test_a_redirect_leads_nowhere(wire: Wire, status: int, where: str) -> None:
    async with sink(status=f"{status} Moved", more=f"Location: {where}\r\nRefresh: 0; url={where}\r\n") as target:
        outbound = Outbound(frozenset({target.where}), frozenset({target.where}))
        outcome = await send(outbound, f"http://{target.where}/")
    assert "redirected" == outcome.error and ["127.0.0.1"] == wire.connects


def test_the_wire_hears_who_connects(wire: Wire) -> None:
    """Else all of this would pass."""
    with socket.socket() as one, pytest.raises(ConnectionRefusedError):
        one.connect(("127.0.0.1", 1))
    assert ["127.0.0.1"] == wire.inside


def answers(monkeypatch: pytest.MonkeyPatch, *each: tuple[str, ...]) -> list[str]:
    """A resolver that answers these in turn, the last for ever; and the names it was asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        try:
            found: tuple[str, ...] = (str(ipaddress.ip_address(host)),)
        except ValueError:
            asked.append(host)
            found = each[min(len(asked), len(each)) - 1]
        family = socket.AF_INET6 if ":" in found[0] else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked
