"""Names, subjects, ids and digests: what every service takes for granted."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import uuid
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.configuration import KEYS
from shared.contracts import catalog
from shared.contracts.action import Action, action_digest
from shared.contracts.catalog import CLASSES, SHORT_LIVED, class_filter, matches, subject_of
from shared.contracts.ids import caused_id, caused_token, fresh_id, is_life, is_token, slot_of, utc_now
from shared.contracts.persona import PersonaPolicy, charter_sha256, clamp
from shared.contracts.services import BOOTSTRAP_EMITS, SERVICES, ServiceRow
from shared.settings import reads
from tests.examples import ACTION, CHARTER, EXAMPLES, IDENTITY

ROOT = Path(__file__).resolve().parents[3]
_LIVES = ("question_id", "proposal_id", "check_id", "intent_id", "target_id", "key_id")


def life_field(name: str) -> str:
    """The field of the token behind the persona: the first of these the class has."""
    return next(field for field in _LIVES if field in CLASSES[name].__struct_fields__)


words = st.sampled_from(("a", "b", "c"))


# -- catalog ---------------------------------------------------------------------------------------------------------


def test_every_class_has_an_emitter_and_every_consumed_class_exists() -> None:
    said = {name for row in SERVICES.values() for name in row.emits}
    assert not said & set(BOOTSTRAP_EMITS)
    said |= set(BOOTSTRAP_EMITS)
    assert set() == set(CLASSES) - said
    assert {name for row in SERVICES.values() for name in row.consumes} <= set(CLASSES)


@pytest.mark.parametrize("row", SERVICES.values(), ids=SERVICES)
def test_a_row_fits_itself_and_its_package(row: ServiceRow) -> None:
    assert importlib.util.find_spec(f"{row.module}.__main__") is not None
    assert set(row.timers) | set(row.refused_when_crowded) <= set(row.consumes)
    assert bool(row.timers) == any(durable.endswith("-timers") for _, durable in row.durables)
    assert ("recall.requested" in row.consumes) == ("RECALL" in dict(row.durables))
    assert all(durable.partition("-")[0] == row.name for _, durable in row.durables)
    assert {stream for stream, _ in row.durables} | set(row.tails) >= {
        "RECALL" if name in SHORT_LIVED else "SWARM" for name in row.consumes
    }
    assert {key.key for key in KEYS.values() if key.secret and reads(row.name, key.key)} == set(row.holds)
    assert ("core.secret" in row.holds) == row.trusted


def test_the_readme_names_every_service() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \| (.+?) \| .* \|$", text, re.MULTILINE)
    assert [(row.name, row.job) for row in SERVICES.values()] == told


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_class_name_is_its_struct_and_the_head_of_its_subject(name: str) -> None:
    entity, _, verb = name.partition(".")
    assert CLASSES[name].__name__ == entity.capitalize() + verb.capitalize()
    subject = subject_of(EXAMPLES[name])
    assert subject.startswith(f"{name}.{EXAMPLES[name].swarm}.{EXAMPLES[name].persona}")
    assert [name] == [other for other in CLASSES if matches(class_filter(other), subject)]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if catalog.has_life(name)])
def test_a_life_of_its_own_is_the_fifth_token(name: str) -> None:
    subject = subject_of(EXAMPLES[name])
    assert subject.split(".")[4] == getattr(EXAMPLES[name], life_field(name))
    assert len(subject.split(".")) == 5 + catalog.has_slot(name)


@pytest.mark.parametrize(
    ("subject_filter", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.*", "a.b", True),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.b.>", "a.b.c", True),
        ("*.b.>", "a.c.c", False),
    ],
)
def test_wildcards_match_as_the_broker_matches(subject_filter: str, subject: str, expected: bool) -> None:
    assert matches(subject_filter, subject) is expected


def by_definition(wanted: list[str], got: list[str]) -> bool:
    """NATS subject matching, straight from its definition."""
    if not wanted:
        return not got
    if wanted == [">"]:
        return len(got) >= 1
    return bool(got) and wanted[0] in ("*", got[0]) and by_definition(wanted[1:], got[1:])


@given(st.lists(words | st.just("*"), min_size=1, max_size=5), st.booleans(), st.lists(words, min_size=1, max_size=5))
def test_matching_is_its_definition(tokens: list[str], tail: bool, subject: list[str]) -> None:
    wanted = [*tokens, ">"] if tail else tokens
    assert matches(".".join(wanted), ".".join(subject)) is by_definition(wanted, subject)


# -- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["a", "0", "p-01", "a" * 48, "root-thinker"])
def test_a_token_is_one_word_of_a_subject(word: str) -> None:
    assert is_token(word)


@pytest.mark.parametrize("word", ["", "-a", "A", "a.b", "a b", "a*", ">", "a\n", "é", "a" * 49, "a_b"])
def test_what_could_break_a_subject_is_no_token(word: str) -> None:
    assert not is_token(word)


@given(st.text(max_size=60))
def test_the_token_pattern_of_the_schema_and_of_the_code_agree(word: str) -> None:
    body = json.loads(msgspec.json.encode(EXAMPLES["persona.reaped"])) | {"persona": word}
    try:
        msgspec.json.decode(json.dumps(body), type=CLASSES["persona.reaped"])
    except msgspec.ValidationError:
        assert not is_token(word)
    else:
        assert is_token(word) or word.endswith("\n")


def test_a_caused_id_follows_from_its_cause_and_nothing_else() -> None:
    assert caused_id("e1", "budget.granted") == "f6aaedfc-0e7c-5e73-b8d5-e46f9b25c7fe"
    assert len({caused_id(c, n, i) for c in ("e1", "e2") for n in ("a.b", "a.c") for i in (0, 1)}) == 8


def test_a_caused_token_is_a_token_and_follows_from_its_cause() -> None:
    assert is_token(caused_token("e1", "p"))
    assert caused_token("e1", "p") == caused_token("e1", "p")
    assert len({caused_token(c, k, i) for c in ("e1", "e2") for k in ("p", "h") for i in (0, 1)}) == 8


def test_fresh_ids_are_version_7_distinct_and_sort_by_the_millisecond() -> None:
    before = utc_now()
    ids = [uuid.UUID(fresh_id()) for _ in range(2000)]
    after = utc_now()
    stamps = [value.int >> 80 for value in ids]
    assert {value.version for value in ids} == {7} and {value.variant for value in ids} == {uuid.RFC_4122}
    assert len(set(ids)) == 2000
    assert stamps == sorted(stamps)
    first, last = (int(t.timestamp() * 1000) for t in (before, after + timedelta(milliseconds=1)))
    assert first <= stamps[0] <= stamps[-1] <= last


# -- digests and policies --------------------------------------------------------------------------------------------


def test_the_digest_of_an_action_is_the_hash_of_its_canonical_json() -> None:
    """The vector is written out, so a change of the rule cannot pass as a change of the test's own arithmetic."""
    action = Action(kind="file.write", target="ä.md", params={"b": 1, "a": "€", "c": None, "d": True})
    canonical = (
        '{"action":"file.write","charter":"cc","params":{"a":"€","b":1,"c":null,"d":true},'
        '"persona":"p","schema_version":1,"swarm":"s","target":"ä.md"}'
    )
    digest = action_digest(swarm="s", persona="p", charter="cc", action=action)
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest
    assert digest == "8a8e0dfc2cdf724b37f550e79f9a5414bab1451cfa3512fe0c591973050062bb"


def test_the_digest_binds_every_part_and_not_the_order_of_parameters() -> None:
    def digest(swarm: str = "s", persona: str = "p", charter: str = "c", action: Action = ACTION) -> str:
        return action_digest(swarm=swarm, persona=persona, charter=charter, action=action)

    turned = msgspec.structs.replace(ACTION, params=dict(reversed(ACTION.params.items())))
    assert digest() == digest(action=turned)
    others = [
        digest(swarm="x"),
        digest(persona="x"),
        digest(charter="x"),
        digest(action=msgspec.structs.replace(ACTION, kind="noop.run")),
        digest(action=msgspec.structs.replace(ACTION, schema_version=2)),
        digest(action=msgspec.structs.replace(ACTION, target="x")),
        digest(action=msgspec.structs.replace(ACTION, params={})),
    ]
    assert len({digest(), *others}) == 8


def test_an_integer_json_cannot_carry_has_no_digest() -> None:
    action = msgspec.structs.replace(ACTION, params={"n": 2**53 + 1})
    with pytest.raises(ValueError, match="cannot be hashed"):
        action_digest(swarm="s", persona="p", charter="c", action=action)


def test_the_charter_hash_is_stable_and_binds_every_field() -> None:
    assert charter_sha256(IDENTITY) == CHARTER == "f421a31cd1c45fb86e5d94b7b4f223e952bbb5d80510d2b24317935804fb9080"
    changed = {"id": "x", "name": "x", "role": "x", "charter": "x", "swarm_id": "x", "parent_id": None, "depth": 2}
    hashes = {charter_sha256(msgspec.structs.replace(IDENTITY, **{k: v})) for k, v in changed.items()}
    assert len(hashes | {CHARTER}) == len(changed) + 1


policies = st.builds(
    PersonaPolicy,
    max_spawn_depth=st.integers(0, 64),
    max_branching_factor=st.integers(0, 9),
    token_budget_per_minute=st.integers(0, 9),
    compute_ms_per_minute=st.integers(0, 9),
    idle_ttl_secs=st.integers(1, 9),
    share_memory=st.booleans(),
    allowed_tools=st.lists(words, unique=True).map(tuple),
)


@given(policies, policies)
def test_a_clamped_policy_is_nowhere_wider_than_the_parents(child: PersonaPolicy, parent: PersonaPolicy) -> None:
    clamped = clamp(child, parent)
    for limit in ("max_spawn_depth", "max_branching_factor", "token_budget_per_minute", "compute_ms_per_minute"):
        assert getattr(clamped, limit) <= min(getattr(child, limit), getattr(parent, limit))
    assert clamped.idle_ttl_secs <= parent.idle_ttl_secs
    assert clamped.share_memory <= parent.share_memory
    assert not parent.allowed_tools or set(clamped.allowed_tools) <= set(parent.allowed_tools)
    assert not parent.allowed_tools or clamped.allowed_tools
    assert clamp(clamped, parent) == clamped


@pytest.mark.parametrize("word", ["core", "r1", "r42"])
def test_no_proposal_and_no_check_is_named_as_a_slot(word: str) -> None:
    """Its life would be what that runner says of the persona."""
    assert is_token(word) and not is_life(word)
    for name in filter(catalog.has_life, CLASSES):
        field = life_field(name)
        body = msgspec.json.encode(msgspec.structs.replace(EXAMPLES[name], **{field: word}))
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.json.decode(body, type=CLASSES[name])


def test_what_only_begins_or_ends_as_a_slot_names_a_proposal() -> None:
    assert all(map(is_life, ["r", "r1x", "cores", "p-1", "1", "ra"]))


def test_a_runner_is_told_apart_by_the_number_of_its_instance() -> None:
    assert ["r1", "r12", "c2"] == [slot_of("persona_runner-1"), slot_of("persona_runner-12"), slot_of("checker-2")]
    for instance in ("persona_runner", "persona_runner-x", "persona_runner-", "persona_runner-1234567"):
        with pytest.raises(ValueError, match="no number"):
            slot_of(instance)
