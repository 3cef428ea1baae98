"""The fabric over the real embedder and the real embedded index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_model import (
    at,
    check,
    draining,
    executed,
    granted,
    hypothesis,
    life,
    outside,
    proposal,
    record,
    ref,
    spawned,
    thought,
)

from shared.contracts.events import PersonaReaped, Surroundings
from shared.memory import fabric as fabric_module
from shared.memory import fold
from shared.memory.fabric import Fabric
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.embeddings import WordLlamaEmbedder
from shared.memory.port import Edge, Hit, MemoryItem, Query
from shared.memory.snapshot import Captured, capture, decode

WHO = [("alpha", "p0"), ("beta", "p0"), ("alpha", "p1"), ("beta", "p1")]


async def test_a_thought_is_found_by_what_it_means(fabric: Fabric) -> None:
    await fabric.remember(
        [
            record(thought("Logins of root over ssh fail again and again"), 1),
            record(thought("The disk of db-1 is nearly full"), 2),
        ]
    )
    first, *_ = await fabric.recall("alpha", "ada", "ssh authentication failures", 2, at(3))
    assert first.text == "Logins of root over ssh fail again and again"
    assert first.seq == 1 and first.kind == "thought" and first.persona == "ada"
    assert 0 < first.score <= 1 and first.recency == pytest.approx(1, abs=1e-3)


async def test_observations_and_failed_thoughts_are_not_remembered_but_move_the_cursor(
    fabric: Fabric, index: EdgeIndex
) -> None:
    await fabric.remember([record(thought("", status="empty"), 1), record(draining(9), 2)])
    assert (await index.count(), fabric.cursor, await index.cursors()) == (0, 2, {"": 2})


async def test_what_a_runner_says_after_the_reap_is_not_remembered_and_moves_the_cursor(
    fabric: Fabric, index: EdgeIndex, embedder: WordLlamaEmbedder
) -> None:
    end = record(PersonaReaped(swarm="alpha", persona="ada", reason="x"), 3)
    late = [
        record(thought("too late"), 4),
        record(hypothesis("too late as well", "h-1"), 5),
        record(proposal("p-1"), 6),
        record(executed("p-0"), 7),
        record(thought("somebody else", persona="bob"), 8),
        record(thought("and later"), 9),
    ]
    await fabric.remember([record(spawned(), 1), record(thought("in time"), 2), end, *late[:3]])
    anew = await Fabric.open(index, embedder)
    anew.ended([end])
    await anew.remember(late[3:])
    assert [i.text for i in await index.scan("alpha/ada")] == [
        "Watch the host and report what is unusual",
        "in time",
        "success: wrote findings.md",
    ]
    assert (anew.cursor, len(await index.scan("alpha/bob"))) == (9, 1)


async def test_events_replayed_twice_change_nothing(fabric: Fabric, index: EdgeIndex) -> None:
    log = life(7, 60)
    await fabric.remember(log)
    before = await state(index)
    again = await fabric.remember(log[20:])
    assert (again.added, again.merged) == (0, 0)
    assert await state(index) == before


async def test_a_write_whose_cursor_was_lost_is_folded_again_without_a_trace(
    fabric: Fabric, index: EdgeIndex, embedder: WordLlamaEmbedder
) -> None:
    log = life(8, 80)
    await fabric.remember(log)
    before = await state(index)
    await index.write(cursors={"": 30})
    late = await Fabric.open(index, embedder)
    assert late.cursor == 30
    await late.remember(log)
    assert await state(index) == before


async def test_what_reads_the_same_is_merged_and_keeps_every_id_and_all_evidence(
    fabric: Fabric, index: EdgeIndex
) -> None:
    first = record(thought("The queue is empty.", evidence=(outside(1),)), 1)
    second = record(thought("the  QUEUE is empty", evidence=(outside(2),)), 2)
    done = await fabric.remember([first, second])
    (item,) = await index.scan("alpha/ada")
    assert (done.added, done.merged) == (1, 1)
    assert item.ids == (first.id, second.id)
    assert item.evidence == ("observation-1", "observation-2")
    assert (item.text, item.seq, item.seen_seq) == ("The queue is empty.", 1, 2)
    assert [i.id for i in await index.retrieve([second.id])] == [first.id]


async def test_near_verbatim_text_is_merged_and_opposites_and_other_numbers_are_linked(
    fabric: Fabric, index: EdgeIndex
) -> None:
    base = record(thought("the backup job of db-1 finished and the archive was uploaded to storage"), 1)
    longer = record(thought("the nightly backup job of db-1 finished and the archive was uploaded to storage"), 2)
    negated = record(thought("the backup job of db-1 has not finished and the archive was uploaded to storage"), 3)
    number = record(thought("the backup job of db-2 finished and the archive was uploaded to storage"), 4)
    await fabric.remember([base, longer, negated, number])
    items = {i.id: i for i in await index.scan("alpha/ada")}
    assert set(items) == {base.id, negated.id, number.id}
    assert items[base.id].merged == (longer.id,)
    assert Edge("similar", base.id) in items[negated.id].edges
    assert Edge("similar", base.id) in items[number.id].edges


async def test_a_representative_that_is_full_gives_way_to_a_new_one(
    fabric: Fabric, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "MAX_MERGED", 3)
    log = [record(thought("nothing new"), seq) for seq in range(1, 10)]
    await fabric.remember(log)
    items = await index.scan("alpha/ada")
    assert [len(i.merged) for i in items] == [3, 3, 0]
    assert {x for i in items for x in i.ids} == {r.id for r in log}


async def test_decisions_are_pinned_and_hang_together_by_their_proposal(fabric: Fabric, index: EdgeIndex) -> None:
    raised = record(hypothesis("root is being guessed", "h-1", (outside(1),)), 2)
    log = [
        record(spawned(), 1),
        raised,
        record(check("confirmed", "h-1", evidence=(ref(raised),)), 3),
        record(proposal("p-1", "h-1"), 4),
        record(granted("p-1"), 5),
        record(executed("p-1"), 6),
        record(check("refuted", "h-1", "c-2"), 7),
        record(
            msgspec.structs.replace(check("inconclusive", "h-1", "c-3"), beside=True, found=Surroundings(lines=())), 8
        ),
    ]
    await fabric.remember(log)
    items = await index.scan("alpha/ada")
    assert [(i.kind, i.pinned) for i in items] == [
        ("charter", True),
        ("hypothesis", False),
        ("check", True),
        ("proposal", True),
        ("approval", True),
        ("action", True),
        ("check", False),
    ]
    assert [i.kind for i in await index.retrieve(["p-1"])] == ["proposal", "approval", "action"]
    assert Edge("refutes", "h-1") in items[6].edges
    assert Edge("because", raised.id) in items[2].edges


async def test_the_same_grant_for_two_proposals_stays_two_memories(fabric: Fabric, index: EdgeIndex) -> None:
    await fabric.remember([record(granted("p-1"), 1), record(granted("p-2"), 2)])
    assert await index.count("alpha/ada") == 2


async def test_what_rests_only_on_the_outside_is_tainted_however_often_it_is_cited(
    fabric: Fabric, index: EdgeIndex
) -> None:
    heard = record(thought("they say the password is weak", evidence=(outside(1),)), 1)
    echoed = record(hypothesis("the password of root is weak", "h-1", (ref(heard),)), 2)
    known = record(executed("p-1"), 3)
    mixed = record(thought("the report about it was written to disk", evidence=(ref(heard), ref(known))), 4)
    foreign = record(thought("another one heard it too", evidence=(ref(known),), persona="bob"), 5)
    await fabric.remember([heard, echoed, known, mixed, foreign])
    taint = {i.seq: i.tainted for i in [*await index.scan("alpha/ada"), *await index.scan("alpha/bob")]}
    assert taint == {1: True, 2: True, 3: False, 4: False, 5: True}


async def test_a_check_is_as_tainted_as_the_verifier_says_also_when_it_cites_nothing(
    fabric: Fabric, index: EdgeIndex
) -> None:
    counted = record(check("refuted", "h-1"), 1)
    measured = record(msgspec.structs.replace(check("refuted", "h-2", "c-2", (outside(9),)), tainted=False), 2)
    await fabric.remember([counted, measured])
    assert {i.seq: i.tainted for i in await index.scan("alpha/ada")} == {1: True, 2: False}


@pytest.mark.parametrize("batch", [1, 7, 400])
async def test_what_many_decisions_say_alike_is_near_to_none_of_them_and_costs_no_more_with_their_number(
    fabric: Fabric, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    asked: list[int] = []
    query = index.query

    async def counting(queries: Sequence[Query]) -> list[list[Hit]]:
        asked.extend(q.limit for q in queries)
        return await query(queries)

    monkeypatch.setattr(index, "query", counting)
    log = [record(executed(f"p-{n}"), n) for n in range(1, 2 * fold.CROWD)]
    for i in range(0, len(log), batch):
        await fabric.remember(log[i : i + batch])
    items = await index.scan("alpha/ada")
    linked = [len([e for e in i.edges if e.type == "similar"]) for i in items]
    assert len(items) == len(log)
    assert linked == [min(n, fold.SIMILAR_EDGES) if n < fold.CROWD else 0 for n in range(len(log))]
    assert max(asked) <= fold.CROWD + fold.NEIGHBOURS


async def test_a_long_memory_is_restored_in_parts_and_its_cursor_last(
    fabric: Fabric, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fabric_module, "TRANSACTION_EVENTS", 4)
    items = [
        MemoryItem(
            id=f"e{n}", seq=n, swarm="alpha", persona="ada", kind="thought", text=f"t{n}", at=at(n),
            importance=0.3, seen_seq=n, seen_at=at(n),
        )
        for n in range(1, 11)
    ]  # fmt: skip
    written: list[tuple[int, dict[str, int]]] = []
    write = index.write

    async def watched(rows=(), *, drop=(), cursors=None):  # type: ignore[no-untyped-def]
        written.append((len(rows), dict(cursors or {})))
        await write(rows, drop=drop, cursors=cursors)

    monkeypatch.setattr(index, "write", watched)
    assert await fabric.restore(capture("alpha", "ada", items).data) is True
    assert written == [(4, {}), (4, {}), (2, {}), (0, {"alpha/ada": 10})]
    assert await index.scan("alpha/ada") == items


async def test_a_distillation_supersedes_the_thoughts_it_was_made_from(fabric: Fabric, index: EdgeIndex) -> None:
    first = record(thought("the queue grows"), 1)
    distilled = record(thought("all in all a busy morning", phase="compress", context_ids=(first.id, "gone")), 2)
    await fabric.remember([first, distilled])
    assert (await index.scan("alpha/ada"))[1].edges == (Edge("supersedes", first.id),)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_an_index_rebuilt_from_the_log_equals_the_one_that_was_lost(
    tmp_path: Path, embedder: WordLlamaEmbedder, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(fabric_module, "COMPACT_EVERY_STEPS", 32)
    day_s = 3600.0 * 2  # two hours an event: compaction passes find stale memories
    log = life(seed, 400, 4, seconds_per_event=day_s)
    one_by_one = await EdgeIndex.open(tmp_path / "live", 256)
    live = await Fabric.open(one_by_one, embedder)
    dropped = 0
    for recorded in log:
        dropped += (await live.remember([recorded])).dropped
    assert dropped > 0
    at_once = await EdgeIndex.open(tmp_path / "rebuilt", 256)
    rebuilt = await Fabric.open(at_once, embedder)
    await rebuilt.remember(log)
    assert await state(at_once) == await state(one_by_one)
    assert [c.data for c in await snapshots(rebuilt)] == [c.data for c in await snapshots(live)]
    await rebuilt.remember(log)
    assert rebuilt.cursor == len(log)
    assert await state(at_once) == await state(one_by_one), "what had left memory came back on a replay"
    await one_by_one.close()
    await at_once.close()


@pytest.mark.parametrize("cut", [1, 40, 155, 300])
async def test_a_snapshot_and_the_log_after_it_give_the_same_bytes(
    tmp_path: Path, embedder: WordLlamaEmbedder, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(fabric_module, "COMPACT_EVERY_STEPS", 32)
    log = life(5, 300, 3, seconds_per_event=7200)
    first = await EdgeIndex.open(tmp_path / "first", 256)
    whole = await Fabric.open(first, embedder)
    await whole.remember(log[:cut])
    taken = await snapshots(whole)
    await whole.remember(log[cut:])
    second = await EdgeIndex.open(tmp_path / "second", 256)
    restored = await Fabric.open(second, embedder)
    for captured in taken:
        assert await restored.restore(captured.data) is (captured.snapshot.seq > 0)
    restored = await Fabric.open(second, embedder)
    await restored.remember(log)
    assert [c.data for c in await snapshots(restored)] == [c.data for c in await snapshots(whole)]
    await first.close()
    await second.close()


async def test_a_snapshot_says_what_it_holds_and_is_addressed_by_its_content(fabric: Fabric) -> None:
    log = [
        record(spawned(), 1),
        record(thought("Logins fail", phase="compress"), 2),
        record(thought("logins fail", phase="compress"), 3),
    ]
    await fabric.remember(log)
    captured = await fabric.snapshot("alpha", "ada")
    assert captured.key == f"snapshots/alpha/ada/3-{captured.sha256}.zst"
    assert (captured.counts.thoughts, captured.counts.kept, captured.counts.merged, captured.counts.pinned) == (
        3,
        2,
        1,
        1,
    )
    assert captured.snapshot.summary.splitlines() == [
        "[thought] Logins fail",
        "[charter] Watch the host and report what is unusual",
    ]
    assert decode(captured.data) == captured.snapshot
    assert captured.snapshot.charter == "Watch the host and report what is unusual"
    assert (await fabric.snapshot("alpha", "nobody")).counts.kept == 0


async def test_a_snapshot_older_than_memory_is_not_restored(fabric: Fabric) -> None:
    await fabric.remember([record(thought("one"), 1)])
    captured = await fabric.snapshot("alpha", "ada")
    assert await fabric.restore(captured.data) is False


async def test_stale_thoughts_leave_and_pinned_and_cited_ones_stay(fabric: Fabric, index: EdgeIndex) -> None:
    cited = record(thought("someone guesses the password of root", evidence=(outside(1),)), 1)
    log = [
        cited,
        *(record(thought(f"{word} seems fine"), seq) for seq, word in enumerate(("nginx", "postgres", "cron"), 2)),
        record(proposal("p-1"), 5),
        record(hypothesis("a guessing attack", "h-1", (ref(cited),)), 6, seconds=40 * 86400),
    ]
    await fabric.remember(log)
    done = await fabric.remember(
        [
            record(
                thought("so much for today", step=fabric_module.COMPACT_EVERY_STEPS),
                7,
                seconds=40 * 86400,
            )
        ]
    )
    assert (done.dropped, done.refused) == (3, ())
    assert [i.seq for i in await index.scan("alpha/ada")] == [1, 5, 6, 7]


PERSONAS = [("alpha", "ada"), ("alpha", "bob"), ("beta", "ada")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(st.sampled_from(PERSONAS), st.sampled_from(["all is well", "all is not well", "disk 9 is full"])),
        max_size=30,
    ),
    asker=st.sampled_from([*PERSONAS, ("beta", "bob"), ("alpha", "all")]),
)
async def test_nobody_ever_recalls_the_memory_of_another_persona_or_swarm(
    tmp_path_factory: pytest.TempPathFactory,
    embedder: WordLlamaEmbedder,
    said: list[tuple[tuple[str, str], str]],
    asker: tuple[str, str],
) -> None:
    index = await EdgeIndex.open(tmp_path_factory.mktemp("isolation") / "index", 256)
    fabric = await Fabric.open(index, embedder)
    log = [record(thought(text, swarm=s, persona=p), seq) for seq, ((s, p), text) in enumerate(said, 1)]
    await fabric.remember(log)
    owners = {r.id: (r.event.swarm, r.event.persona) for r in log}
    found = await fabric.recall(*asker, "disk is full", 100, at(1000))
    assert {owners[m.id] for m in found} <= {asker}
    assert len(found) == len({text for who, text in said if who == asker})
    for item in (await fabric.snapshot(*asker)).snapshot.items:
        assert {owners[i] for i in item.ids} == {asker}
        assert {owners[e.target] for e in item.edges} <= {asker}
    await index.close()


async def state(index: EdgeIndex) -> dict[str, list[MemoryItem]]:
    return {f"{s}/{p}": await index.scan(f"{s}/{p}") for s, p in WHO}


async def snapshots(fabric: Fabric) -> Sequence[Captured]:
    return [await fabric.snapshot(s, p) for s, p in WHO]
