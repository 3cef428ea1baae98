"""Messages to another NATS account: on subjects with rows alone, once where a stream keeps them, and unknown where nobody can tell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import nats
import pytest

from services.actuator.hands.bridge import BridgeHand
from services.actuator.hands.hand import Task
from services.actuator.hands.receipts import Receipts
from services.actuator.terms import Job, Outcome
from shared.contracts.action import Action
from shared.contracts.action_kinds import classify, held
from shared.contracts.kinds.arguments import Argument
from shared.contracts.kinds.bridge import NatsPublish
from shared.contracts.row import Row
from shared.outside.subjects import Subject, row_of, subjects_of
from shared.settings import SettingsError
from tests.broker import Broker

TEAM = Argument(like="[a-z]+")
ARGUMENTS = {
    "team": TEAM,
    "level": Argument(least=1, most=5),
    "load": Argument(least=0, most=9, places=1, optional=True),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A server that is not the mesh's, whose stream ALERTS keeps `alerts.*`."""
    broker = Broker(tmp_path_factory.mktemp("other"))

    async def declare() -> None:
        await broker.start()
        client = await nats.connect(broker.url)
        await client.jetstream().add_stream(name="ALERTS", subjects=["alerts.*"], max_bytes=2**20)
        await client.close()

    asyncio.run(declare())
    yield broker
    broker.kill()


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[Receipts]:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    receipts = Receipts(root)
    yield receipts
    receipts.close()
    os.close(root)


def kept(broker: Broker, **changed: Any) -> Subject:
    given: dict[str, Any] = {"url": broker.url, "subject": "alerts.{team}", "stream": "ALERTS", "arguments": ARGUMENTS}
    return Subject(**{**given, **changed})


def task(receipts: Receipts, row: Subject, key: str = "p-1", **arguments: Any) -> Task:
    action = Action(kind="nats.publish", target="alert", params=arguments)
    return Task(
        job=Job(swarm="alpha", persona="p01", proposal_id=key, action=action, row=row.row.digest),
        params=NatsPublish(arguments=arguments),
        claim=cast("Any", SimpleNamespace(id=f"claim-{key}")),
        mark=f"actuator/{receipts.identity}/x",
        timeout_s=20.0,
    )


def act(receipts: Receipts, row: Subject, what: Task) -> Outcome:
    return asyncio.run(BridgeHand({"alert": row}, receipts).act(what))


def stored(broker: Broker, subject: str) -> list[tuple[bytes, str]]:
    async def read() -> list[tuple[bytes, str]]:
        client = await nats.connect(broker.url)
        stream = client.jetstream()
        count = (await stream.stream_info("ALERTS")).state.messages
        found = [await stream.get_msg("ALERTS", seq) for seq in range(1, count + 1)]
        await client.close()
        return [(one.data or b"", (one.headers or {})["Nats-Msg-Id"]) for one in found if one.subject == subject]

    return asyncio.run(read())


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("url='http://a.example.org'\nsubject='a'", "regex"),
        ("url='nats://a:4222'\nsubject='a.>'", "no literal one"),
        ("url='nats://a:4222'\nsubject='a.*'", "no literal one"),
        ("url='nats://a:4222'\nsubject='a..b'", "no literal one"),
        ("url='nats://a:4222'\nsubject='a.{x}'", "arguments have not"),
        ("url='nats://a:4222'\nsubject='a.{x}'\narguments.x={like='a',optional=true}", "neither optional nor many"),
        ("url='nats://a:4222'\nsubject='a'\narguments.x={}", "x: has one of"),
        ("url='nats://mesh:4222'\nsubject='proposal.authorized.a.b.c'", "the mesh's own broker"),
        ("url='nats://a:4222'\nsubject='a'\nshell=true", "shell"),
    ],
)
def test_a_row_with_a_flaw_stops_the_start_and_says_where(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "bridge.toml").write_text(f"[subjects.x]\n{text}")
    with pytest.raises(SettingsError, match=r"bridge\.toml") as error:
        subjects_of(str(tmp_path / "bridge.toml"), "nats://mesh:4222")
    assert why in str(error.value)
    assert {} == subjects_of("")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"team": "db.>", "level": 1}, "is not as its pattern says"),
        ({"team": "db", "level": 9}, "is no number"),
        ({"team": "db"}, "missing or too many: level"),
        ({"team": "db", "level": 1, "more": 1}, "missing or too many: more"),
    ],
)
def test_what_has_no_row_or_is_beyond_it_is_told_before_anybody_is_asked(arguments: dict[str, Any], why: str) -> None:
    rows = {"alert": Subject(url="nats://a:4222", subject="alerts.{team}", arguments=ARGUMENTS)}
    said = row_of(rows, Action(kind="nats.publish", target="alert", params=arguments))
    assert isinstance(said, str) and why in said
    assert "named no subject" in str(row_of(rows, Action(kind="nats.publish", target="other")))
    good = Action(kind="nats.publish", target="alert", params={"team": "db", "level": 1})
    assert isinstance(row_of(rows, good), Row) and "high" == classify(good, "s", "p")
    assert "low" == classify(good, "s", "p", Row(risk="low"))
    assert held(good, "s", "p") is not None and held(good, "s", "p", Row(exclusive=False)) is None
    wide = Subject(url="nats://a:4222", subject="alerts.{team}", arguments={"team": Argument(like=".*")})
    for token in ("a.b", "*", ">", "a b", ""):
        assert "no token" in wide.trouble({"team": token}), token


# -- publishing ------------------------------------------------------------------------------------------------------


def test_it_is_in_the_stream_once_under_the_claims_id(other: Broker, receipts: Receipts) -> None:
    row = kept(other)
    what = task(receipts, row, team="db", level=3, load="0.5")
    done = act(receipts, row, what)
    assert "success" == done.outcome and "ALERTS has it as" in done.summary, done
    assert [(b'{"level":3,"load":0.5,"team":"db"}', "claim-p-1")] == stored(other, "alerts.db")
    assert "fenced" == act(receipts, row, what).error, "a second time it is not begun"
    elsewhere = msgspec.structs.replace(what, job=msgspec.structs.replace(what.job, proposal_id="p-9"))
    again = act(receipts, row, elsewhere)
    assert "which had it before" in again.summary and 1 == len(stored(other, "alerts.db"))


def test_who_died_after_it_was_begun_is_told_by_the_stream(other: Broker, receipts: Receipts) -> None:
    row = kept(other)
    hand = BridgeHand({"alert": row}, receipts)
    sent = task(receipts, row, "p-2", team="web", level=1)
    assert "success" == asyncio.run(hand.act(sent)).outcome
    assert "success" == asyncio.run(hand.inquire(sent)).outcome, "its newest is this one"
    assert "success" == asyncio.run(hand.act(task(receipts, row, "p-3", team="web", level=2))).outcome
    assert ("unknown", "cannot_tell") == ((late := asyncio.run(hand.inquire(sent))).outcome, late.error)
    begun = task(receipts, row, "p-4", team="nobody", level=1)
    assert receipts.begin(begun.job.key, begun.claim.id)
    assert "unknown" == asyncio.run(hand.inquire(begun)).outcome, "it is not there now, and may be on its way"
    fresh = task(receipts, row, "p-5", team="web", level=5)
    assert "not_executed" == asyncio.run(hand.inquire(fresh)).error
    assert "fenced" == asyncio.run(hand.act(fresh)).error and 2 == len(stored(other, "alerts.web"))


def test_where_no_stream_keeps_it_nobody_can_be_asked(other: Broker, receipts: Receipts) -> None:
    row = kept(other, stream="", subject="loose.{team}")
    heard: list[bytes] = []

    async def listened() -> Outcome:
        client = await nats.connect(other.url)
        subscription = await client.subscribe("loose.*")
        await client.flush()
        done = await BridgeHand({"alert": row}, receipts).act(task(receipts, row, "p-6", team="db", level=1))
        heard.append((await subscription.next_msg(timeout=5)).data)
        await client.close()
        return done

    assert "success" == asyncio.run(listened()).outcome and [b'{"level":1,"team":"db"}'] == heard
    hand = BridgeHand({"alert": row}, receipts)
    assert "unknown" == asyncio.run(hand.inquire(task(receipts, row, "p-6", team="db", level=1))).outcome


def test_a_stream_that_is_not_there_and_a_server_that_is_not_are_failures(other: Broker, receipts: Receipts) -> None:
    none = kept(other, stream="NONE", subject="loose.{team}")
    assert ("failure", "refused") == (
        (done := act(receipts, none, task(receipts, none, "p-7", team="a", level=1))).outcome,
        done.error,
    )
    away = kept(other, url="nats://127.0.0.1:9")
    gone = act(receipts, away, task(receipts, away, "p-8", team="a", level=1))
    assert ("failure", "not_connected") == (gone.outcome, gone.error)


def test_what_hinders_and_what_was_judged_by_another_row_is_not_published(other: Broker, receipts: Receipts) -> None:
    row = kept(other)
    late = Outcome(outcome="failure", summary="the kill switch is on", error="kill_switch")
    what = task(receipts, row, "p-10", team="late", level=1)
    assert late == act(receipts, row, msgspec.structs.replace(what, hindered=lambda: late))
    judged = msgspec.structs.replace(what, job=msgspec.structs.replace(what.job, row="1" * 64))
    assert "row_changed" == act(receipts, row, judged).error
    assert "bad_params" == act(receipts, row, task(receipts, row, "p-11", team="DB", level=1)).error
    assert "not_named" == asyncio.run(BridgeHand({}, receipts).act(what)).error
    assert [] == stored(other, "alerts.late")
