"""The digest is RFC 8785's, whichever way it was computed."""

from __future__ import annotations

import hashlib

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.action import MAX_INTEGER, Action, action_digest

SCALARS = st.one_of(st.text(), st.integers(-MAX_INTEGER, MAX_INTEGER), st.booleans(), st.none())


@given(st.dictionaries(st.text(max_size=8), SCALARS, max_size=6), st.text(min_size=1, max_size=40))
def test_the_fast_way_gives_the_canonical_bytes(params: dict[str, str | int | bool | None], target: str) -> None:
    action = Action(kind="file.write", target=target, params=params)
    body = {
        "action": action.kind,
        "charter": "c",
        "params": params,
        "persona": "p",
        "schema_version": 1,
        "swarm": "s",
        "target": target,
    }
    expected = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    assert expected == action_digest(swarm="s", persona="p", charter="c", action=action)
