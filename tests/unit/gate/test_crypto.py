"""A verdict is signed over all of it, or it is not signed."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.events import ProposalAuthorized
from shared.crypto import _signed_bytes, new_seed, public_key, sign_verdict, verify_verdict
from tests.unit.gate.given import KEY, SEED, at, authorized, proposed, replaced


def signed(**changed: Any) -> ProposalAuthorized:
    draft = authorized(proposed(), key="", **changed)
    key, signature = sign_verdict(SEED, draft)
    verdict: ProposalAuthorized = replaced(draft, key=key, signature=signature)
    return verdict


def test_a_signed_verdict_verifies_also_after_a_round_trip_through_the_log() -> None:
    verdict = signed(approvals=("a1", "a2"), conditions=("once",))
    again = msgspec.json.decode(msgspec.json.encode(verdict), type=ProposalAuthorized)
    assert verify_verdict(verdict, {KEY}) and verify_verdict(again, {KEY})


OTHER: list[tuple[str, object]] = [
    ("swarm", "beta"),
    ("persona", "p02"),
    ("proposal_id", "p-2"),
    ("digest", "1" * 64),
    ("risk", "high"),
    ("policy_ids", ("file-approved",)),
    ("policy_ids", ()),
    ("policy_version", "policies-2"),
    ("conditions", ("none",)),
    ("approvals", ("a1",)),
    ("expires_at", at(300) + timedelta(microseconds=1)),
    ("key", public_key(new_seed())),
]


@pytest.mark.parametrize(("field", "value"), OTHER, ids=[field for field, _ in OTHER])
def test_any_changed_field_breaks_the_signature(field: str, value: object) -> None:
    changed = replaced(signed(), **{field: value})
    assert not verify_verdict(changed, {KEY, changed.key})


def test_every_field_but_the_signature_is_among_those_tampered_with() -> None:
    assert {field for field, _ in OTHER} | {"signature"} == set(ProposalAuthorized.__struct_fields__)


def test_a_good_signature_by_an_untrusted_key_does_not_count() -> None:
    assert not verify_verdict(signed(), {public_key(new_seed())})
    assert not verify_verdict(signed(), set())


@given(
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4),
    micros=st.integers(0, 10**15),
)
def test_what_is_signed_is_the_canonical_json_of_rfc_8785(words: list[str], micros: int) -> None:
    verdict = authorized(proposed(), policy_ids=tuple(words), expires_at=at(0) + timedelta(microseconds=micros))
    body = msgspec.to_builtins(verdict)
    del body["signature"]
    assert rfc8785.dumps(body) == _signed_bytes(verdict)


@given(key=st.text(max_size=70), signature=st.one_of(st.text(max_size=100), st.binary(max_size=80)))
def test_garbage_is_unsigned_and_never_an_error(key: str, signature: str | bytes) -> None:
    text = signature if isinstance(signature, str) else base64.b64encode(signature).decode()
    assert not verify_verdict(replaced(signed(), signature=text), {KEY})
    assert not verify_verdict(replaced(signed(), key=key, signature=text), {KEY, key})


def test_a_key_of_another_nkey_role_is_no_signer() -> None:
    raw = bytearray(base64.b32decode(KEY))
    raw[0] = 0
    account = base64.b32encode(bytes(raw)).decode()
    assert not verify_verdict(replaced(signed(), key=account), {account})


@pytest.mark.parametrize("seed", ["", "SU", "not a seed", KEY, "SUAAAA" * 9, "ü"], ids=range(6))
def test_what_is_no_seed_is_refused_without_being_repeated(seed: str) -> None:
    with pytest.raises(ValueError, match="not an nkey seed") as caught:
        sign_verdict(seed, authorized(proposed()))
    assert len(seed) < 10 or seed not in str(caught.value)


def test_seeds_differ_and_name_their_public_key() -> None:
    first, second = new_seed(), new_seed()
    assert first != second and first.startswith("SU") and public_key(first).startswith("U")
    assert sign_verdict(first, authorized(proposed()))[0] == public_key(first)
