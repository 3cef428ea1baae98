"""How answers leave: tags, 304, HEAD, compression; and what pages of other origins may do."""

from __future__ import annotations

import gzip

import pytest
from gateway_model import Mesh, key, mesh, spawned
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.front.outgoing import has, tag_of, takes_gzip
from services.gateway.service import gateway_settings
from services.gateway.settings import GatewaySettings
from shared.settings import Http, Settings, SettingsError

STREAM = "/v1/cognition/stream"
DASH = "https://dash.example"
ASKED = {"Origin": DASH, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
KEYS = (key("r-token", "reader", "read"),)


async def test_what_the_caller_has_already_is_304_until_it_changes() -> None:
    async with mesh() as up, up.client() as client:
        await up.put(spawned("p"))
        first = await client.get("/v1/swarm/lineage")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for named in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            again = await client.get("/v1/swarm/lineage", headers={"If-None-Match": named})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        await up.put(spawned("q"))
        changed = await client.get("/v1/swarm/lineage", headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


async def test_head_is_get_without_the_body_and_opens_no_stream() -> None:
    async with mesh(GatewaySettings(keys=KEYS)) as up, up.client("r-token") as client:
        whole, head = await client.get("/v1/swarm/lineage"), await client.head("/v1/swarm/lineage")
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "content-type", "content-length"):
            assert head.headers[name] == whole.headers[name]
        stream = await client.head(STREAM)
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert not up.gateway.feed.subscriptions
        for path, status in (("/nope", 404), ("/v1/cognition/start", 405), (f"{STREAM}?type=none", 422)):
            refused = await client.head(path)
            assert (refused.status_code, refused.content) == (status, b"")
        async with up.client() as bare:
            assert (await bare.head("/v1/swarm/lineage")).status_code == 401


async def test_json_is_compressed_for_who_takes_it_and_the_stream_never() -> None:
    async with mesh() as up, up.client() as client:
        await up.put(*(spawned(f"p-{n}") for n in range(200)))
        for path in ("/v1/swarm/personas", "/v1/swarm/lineage", "/schema/openapi.json"):
            plain = await client.get(path, headers={"Accept-Encoding": "identity"})
            assert "content-encoding" not in plain.headers
            async with client.stream("GET", path, headers={"Accept-Encoding": "br, gzip;q=0.5"}) as answer:
                raw = b"".join([chunk async for chunk in answer.aiter_raw()])
                assert answer.headers["content-encoding"] == "gzip"
                assert "Accept-Encoding" in answer.headers["vary"]
                assert answer.headers["etag"] == plain.headers["etag"]
                assert int(answer.headers["content-length"]) == len(raw) < len(plain.content) / 3
            assert gzip.decompress(raw) == plain.content
        async with client.stream("GET", STREAM, headers={"Accept-Encoding": "gzip"}) as answer:
            assert "content-encoding" not in answer.headers
        assert "content-encoding" not in (await client.get("/health")).headers


@pytest.mark.parametrize(
    ("header", "expected"),
    [("gzip", True), ("deflate, gzip", True), ("*", True), ("gzip;q=0", False), ("gzip; q=0.0", False),
     ("GZIP;q=1", True), ("", False), ("identity", False), ("xgzip", False), ("br;q=1, gzip ; q=0.2", True)],
)  # fmt: skip
def test_who_takes_gzip(header: str, expected: bool) -> None:
    assert takes_gzip(header) == expected


@given(st.text(max_size=40))
def test_no_header_breaks_the_comparison(header: str) -> None:
    takes_gzip(header)
    assert has(header, tag_of(b"x")) == any(n.strip() == "*" for n in header.split(","))


# -- origins -----------------------------------------------------------------------------------------------------------


async def test_a_preflight_is_answered_without_a_key_and_names_what_may_be_sent() -> None:
    async with mesh(GatewaySettings(keys=KEYS, allowed_origins=(DASH,))) as up, up.client() as client:
        answer = await client.options("/v1/approvals/x", headers=ASKED)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == DASH
        assert "POST" in answer.headers["access-control-allow-methods"]
        for name in ("Authorization", "Idempotency-Key", "Last-Event-ID", "Content-Type", "If-Match"):
            assert name in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-private-network" not in answer.headers
        private = await client.options("/v1", headers={**ASKED, "Access-Control-Request-Private-Network": "true"})
        assert private.headers["access-control-allow-private-network"] == "true"
        for origin in ("https://evil.example", "null", f"{DASH}:444", "http://dash.example"):
            refused = await client.options("/v1/approvals/x", headers={**ASKED, "Origin": origin})
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers


async def test_an_allowed_origin_may_read_answers_errors_and_streams_and_another_may_not() -> None:
    async with mesh(GatewaySettings(keys=KEYS, allowed_origins=(DASH,))) as up, up.client() as client:
        for path, status in (
            ("/v1/cognition/status?token=r-token", 200),
            ("/v1/cognition/status", 401),
            ("/v1/cognition/personas/x?token=r-token", 404),
            (f"{STREAM}?token=r-token", 200),
            ("/health", 200),
        ):
            async with client.stream("GET", path, headers={"Origin": DASH}) as answer:
                assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, DASH)
                for name in ("ETag", "Link", "Retry-After"):
                    assert name in answer.headers["access-control-expose-headers"]
                assert "Origin" in answer.headers["vary"]
            async with client.stream("GET", path, headers={"Origin": "https://evil.example"}) as answer:
                assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": DASH}, 200),
        ({"Origin": DASH, "Host": "dash.example"}, 200),
        ({"Host": "dash.example"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": DASH, "Host": "evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "dash.example.evil.example"}, 403),
    ],
)
async def test_without_keys_a_dashboard_that_is_allowed_may_post_through_a_proxy_and_no_other_page(
    headers: dict[str, str], status: int
) -> None:
    async with mesh(GatewaySettings(allowed_origins=(DASH,))) as up, up.client() as client:
        answer = await client.post("/v1/swarm/alpha/observations", json={"text": "t"}, headers=headers)
        assert answer.status_code == status


async def test_without_an_allowed_origin_no_other_page_gets_a_preflight(up_plain: Mesh) -> None:
    async with up_plain.client() as client:
        assert (await client.options("/v1/swarm/personas", headers=ASKED)).status_code == 403


@pytest.fixture
async def up_plain():  # type: ignore[no-untyped-def]
    async with mesh() as found:
        yield found


def test_an_origin_that_is_none_is_refused_at_the_start() -> None:
    good = "https://dash.example, http://localhost:5173,http://[::1]:80"
    assert len(gateway_settings(Settings(http=Http(allowed_origins=good))).allowed_origins) == 3
    for bad in ("*", "null", "dash.example", "https://dash.example/", "https://Dash.example", "https://a b", "ws://x"):
        with pytest.raises(SettingsError, match="SWARM_HTTP_ALLOWED_ORIGINS"):
            gateway_settings(Settings(http=Http(allowed_origins=bad)))
