"""A verdict is signed over all of it, or it is not signed."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import msgspec
import nkeys
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.events import ProposalAuthorized, Signer, SignersChanged
from shared.crypto import (
    _SIGNERS,
    _VERDICT,
    _signed_bytes,
    new_seed,
    public_key,
    public_keys,
    sign_signers,
    sign_verdict,
    verify_signers,
    verify_verdict,
)
from tests.unit.gate.given import KEY, ROOT, ROOT_SEED, SEED, appointed, at, authorized, proposed, replaced

TRUSTED = (Signer(key=KEY),)


def signed(**changed: Any) -> ProposalAuthorized:
    draft = authorized(proposed(), key="", **changed)
    key, signature = sign_verdict(SEED, draft)
    verdict: ProposalAuthorized = replaced(draft, key=key, signature=signature)
    return verdict


def test_a_signed_verdict_verifies_also_after_a_round_trip_through_the_log() -> None:
    verdict = signed(approvals=("a1", "a2"), conditions=("once",))
    again = msgspec.json.decode(msgspec.json.encode(verdict), type=ProposalAuthorized)
    assert verify_verdict(verdict, TRUSTED, at(0)) and verify_verdict(again, TRUSTED, at(0))


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
    assert not verify_verdict(changed, (*TRUSTED, Signer(key=changed.key)), at(0))


def test_every_field_but_the_signature_is_among_those_tampered_with() -> None:
    assert {field for field, _ in OTHER} | {"signature"} == set(ProposalAuthorized.__struct_fields__)


def test_a_good_signature_by_an_untrusted_key_does_not_count() -> None:
    assert not verify_verdict(signed(), (Signer(key=public_key(new_seed())),), at(0))
    assert not verify_verdict(signed(), (), at(0))


@given(
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4),
    micros=st.integers(0, 10**15),
)
def test_what_is_signed_is_the_canonical_json_of_rfc_8785(words: list[str], micros: int) -> None:
    verdict = authorized(proposed(), policy_ids=tuple(words), expires_at=at(0) + timedelta(microseconds=micros))
    body = msgspec.to_builtins(verdict)
    del body["signature"]
    assert _VERDICT + rfc8785.dumps(body) == _signed_bytes(verdict)


@given(key=st.text(max_size=70), signature=st.one_of(st.text(max_size=100), st.binary(max_size=80)))
def test_garbage_is_unsigned_and_never_an_error(key: str, signature: str | bytes) -> None:
    text = signature if isinstance(signature, str) else base64.b64encode(signature).decode()
    assert not verify_verdict(replaced(signed(), signature=text), TRUSTED, at(0))
    assert not verify_verdict(replaced(signed(), key=key, signature=text), (*TRUSTED, Signer(key=key)), at(0))


def test_a_key_of_another_nkey_role_is_no_signer() -> None:
    raw = bytearray(base64.b32decode(KEY))
    raw[0] = 0
    account = base64.b32encode(bytes(raw)).decode()
    assert not verify_verdict(replaced(signed(), key=account), (Signer(key=account),), at(0))


@pytest.mark.parametrize("seed", ["", "SU", "not a seed", KEY, "SUAAAA" * 9, "ü"], ids=range(6))
def test_what_is_no_seed_is_refused_without_being_repeated(seed: str) -> None:
    with pytest.raises(ValueError, match="not an nkey seed") as caught:
        sign_verdict(seed, authorized(proposed()))
    assert len(seed) < 10 or seed not in str(caught.value)


def test_seeds_differ_and_name_their_public_key() -> None:
    first, second = new_seed(), new_seed()
    assert first != second and first.startswith("SU") and public_key(first).startswith("U")
    assert sign_verdict(first, authorized(proposed()))[0] == public_key(first)


def test_what_a_broker_has_its_clients_sign_is_no_verdict() -> None:
    """A login signs the server's nonce as it comes: were it the bytes of a verdict, whoever plays broker could have it signed."""
    draft = authorized(proposed(), key=KEY)
    nonce = _signed_bytes(draft).removeprefix(_VERDICT)
    signature = base64.b64encode(nkeys.from_seed(SEED.encode()).sign(nonce)).decode()
    assert not verify_verdict(replaced(draft, signature=signature), TRUSTED, at(0))


def test_a_key_is_good_until_its_time() -> None:
    old, new = new_seed(), new_seed()
    trusted = (Signer(key=public_key(old), until=at(60)), Signer(key=public_key(new)))
    for seed, good, bad in ((old, (0, 59), (60, 90)), (new, (0, 60, 90), ()), (SEED, (), (0, 90))):
        draft = authorized(proposed(), key="")
        key, signature = sign_verdict(seed, draft)
        verdict = replaced(draft, key=key, signature=signature)
        assert [True] * len(good) == [verify_verdict(verdict, trusted, at(s)) for s in good]
        assert [False] * len(bad) == [verify_verdict(verdict, trusted, at(s)) for s in bad]


def test_keys_are_read_by_lines_or_commas_and_what_is_none_is_said() -> None:
    other = public_key(new_seed())
    assert (KEY, other) == public_keys(f"{KEY}\n {other},\n")
    for text in ("U", f"{KEY} tomorrow", f"A{KEY[1:]}"):
        with pytest.raises(ValueError, match="is no public key"):
            public_keys(text)


# -- who signs ---------------------------------------------------------------------------------------------------------

WORD = appointed(Signer(key=KEY, until=at(60)), public_key(new_seed()), number=7)
OTHER_WORD: list[tuple[str, object]] = [
    ("swarm", "beta"),
    ("persona", "p02"),
    ("number", 8),
    ("signers", WORD.signers[:1]),
    ("signers", (replaced(WORD.signers[0], until=None), WORD.signers[1])),
    ("signers", ()),
    ("root", public_key(new_seed())),
]


def test_a_word_on_who_signs_is_its_roots_also_after_a_round_trip_through_the_log() -> None:
    again = msgspec.json.decode(msgspec.json.encode(WORD), type=SignersChanged)
    assert verify_signers(WORD, (ROOT,)) and verify_signers(again, ("U", ROOT))
    assert not verify_signers(WORD, ()) and not verify_signers(WORD, (KEY,))
    assert _signed_bytes(WORD) == _SIGNERS + rfc8785.dumps(
        {k: v for k, v in msgspec.to_builtins(WORD).items() if k != "signature"}
    )


@pytest.mark.parametrize(
    ("field", "value"), OTHER_WORD, ids=[f"{field}-{n}" for n, (field, _) in enumerate(OTHER_WORD)]
)
def test_any_changed_field_of_that_word_breaks_its_signature(field: str, value: object) -> None:
    changed = replaced(WORD, **{field: value})
    assert not verify_signers(changed, (ROOT, changed.root))
    assert {name for name, _ in OTHER_WORD} | {"signature"} == set(SignersChanged.__struct_fields__)


def test_neither_a_verdict_nor_a_login_is_a_word_on_who_signs() -> None:
    body = _signed_bytes(WORD).removeprefix(_SIGNERS)
    for prefix in (b"", _VERDICT):
        signature = base64.b64encode(nkeys.from_seed(ROOT_SEED.encode()).sign(prefix + body)).decode()
        assert not verify_signers(replaced(WORD, signature=signature), (ROOT,))
    assert verify_signers(sign_signers(ROOT_SEED, replaced(WORD, root="", signature="")), (ROOT,))
    with pytest.raises(ValueError, match="not an nkey seed"):
        sign_signers("SU", WORD)
