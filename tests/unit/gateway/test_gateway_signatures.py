"""A proposal's life tells whether its verdict is signed by whom the log says may sign there."""

from __future__ import annotations

from services.gateway.settings import GatewaySettings
from shared.crypto import new_seed, public_key, sign_verdict
from tests.unit.gate.given import KEY, ROOT, SEED, appointed, replaced
from tests.unit.gateway.gateway_model import authorized, created, mesh, verified


async def test_it_is_held_against_the_keys_of_its_place_and_where_nobody_can_tell_that_is_said() -> None:
    async with mesh(GatewaySettings(verdict_roots=(ROOT,))) as up, up.client() as client:

        async def signature(name: str) -> dict[str, object] | None:
            answer = await client.get(f"/v1/proposals/{name}")
            found: dict[str, object] | None = answer.json()["signature"]
            return found

        async def authorise(name: str, seed: str) -> int:
            c = created(name)
            key, text = sign_verdict(seed, authorized(c))
            return await up.put(c, verified(c), replaced(authorized(c), key=key, signature=text))

        new = new_seed()
        await up.put(created("open"))
        assert await signature("open") is None
        first = await authorise("first", SEED)
        told = await signature("first")
        assert told is not None and (KEY, None) == (told["key"], told["good"]) and "bootstrap" in str(told["detail"])
        await up.put(appointed(KEY), appointed(public_key(new), number=2))
        stolen, after = await authorise("stolen", SEED), await authorise("after", new)
        assert [
            {"key": KEY, "good": True, "detail": f"by a key that was good at {first}"},
            {"key": KEY, "good": False, "detail": f"by no key that was good at {stolen}"},
            {"key": public_key(new), "good": True, "detail": f"by a key that was good at {after}"},
        ] == [await signature(name) for name in ("first", "stolen", "after")]
