"""What every vector index promises; and what the embedded one promises beyond it: locks, crashes, corruption."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest

from shared.log.marks import Mark
from shared.memory.dedup import exact_key
from shared.memory.index import points
from shared.memory.index.edge import EdgeIndex
from shared.memory.index.server import ServerIndex
from shared.memory.port import LOG, Edge, IndexInUse, IndexUnavailable, MemoryItem, Query, Vector, VectorIndex
from tests.contract.memory.qdrant_api import check

DIM = 8
WHEN = datetime(2026, 11, 1, 12, 30, 0, 123456, tzinfo=UTC)

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


def item(n: int, swarm: str = "alpha", persona: str = "ada", **more: object) -> MemoryItem:
    plain = MemoryItem(
        id=f"event-{n}", seq=n, swarm=swarm, persona=persona, kind="thought", text=f"text {n}", at=WHEN,
        importance=0.1 + 0.2, seen_seq=n, seen_at=WHEN,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **more)


def vector(*values: float) -> Vector:
    row = np.zeros(DIM)
    row[: len(values)] = values
    return np.asarray(row / np.linalg.norm(row), np.float32)


async def test_an_item_comes_back_as_it_was_written(index: VectorIndex) -> None:
    full = item(
        7, phase="reflect", pinned=True, tainted=True, evidence=("o-1",), merged=("event-8",),
        edges=(Edge("because", "h-1"), Edge("similar", "event-1")), about="h-1", source_bytes=3, text="naïve ☃ \n\x00 text",
    )  # fmt: skip
    await index.write([(full, vector(1, 2, 3))])
    (hits,) = await index.query([Query(vector=vector(1, 2, 3), owners=("alpha/ada",), limit=3)])
    assert [h.item for h in hits] == [full]
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    for found in (["event-7"], ["event-8"], ["h-1"]):
        assert await index.retrieve(found) == [full]
    assert await index.matching([exact_key("alpha/ada", "thought", "h-1", full.text)]) == [full]
    assert await index.scan("alpha/ada") == [full]


async def test_a_stored_vector_comes_back_bit_for_bit(index: VectorIndex, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.id in ("local_engine", "api"):
        pytest.skip("qdrant-client's own engine scales vectors again; Qdrant's leaves unit vectors alone")
    rows = np.random.default_rng(5).standard_normal((200, DIM))
    unit = np.asarray(rows / np.linalg.norm(rows, axis=1)[:, None], np.float32)
    await index.write([(item(n), unit[n]) for n in range(200)])
    (hits,) = await index.query([Query(vector=unit[0], owners=("alpha/ada",), limit=200, ties=1e-4, most=200)])
    assert len(hits) == 200
    assert all(np.array_equal(h.vector, unit[h.item.seq]) for h in hits)


async def test_the_nearest_come_first_and_none_below_the_least_score(index: VectorIndex) -> None:
    await index.write(
        [(item(1), vector(1, 0)), (item(2), vector(1, 1)), (item(3), vector(0, 1)), (item(4), vector(-1, 0))]
    )
    near = Query(vector=vector(1, 0.1), owners=("alpha/ada",), limit=2)
    strict = Query(vector=vector(0, 1), owners=("alpha/ada",), limit=9, min_score=0.7)
    first, second = await index.query([near, strict])
    assert [h.item.seq for h in first] == [1, 2]
    assert [h.item.seq for h in second] == [3, 2]


async def test_with_ties_what_is_as_near_as_the_last_comes_too_with_its_vector_and_no_more(index: VectorIndex) -> None:
    await index.write(
        [(item(1), vector(1, 0)), *((item(n), vector(1, 1)) for n in range(2, 7)), (item(7), vector(0, 1))]
    )
    near = Query(vector=vector(1, 0), owners=("alpha/ada",), limit=2)
    asked = [near, msgspec.structs.replace(near, ties=1e-4, most=9), msgspec.structs.replace(near, ties=1e-4, most=4)]
    plain, tied, bounded = await index.query(asked)
    assert [h.vector for h in plain] == [None, None]
    assert sorted(h.item.seq for h in tied) == [1, 2, 3, 4, 5, 6]
    assert tied[0].item.seq == 1
    assert all(h.vector is not None and h.vector.shape == (DIM,) for h in tied)
    assert len(bounded) == 4


async def test_what_is_no_item_is_left_out_and_hides_nothing(index: VectorIndex) -> None:
    bad = item(1, id="x" * 65, merged=("event-9",))
    await index.write([(bad, vector(1)), (item(2), vector(1))], cursors={"": 2})
    near = Query(vector=vector(1), owners=("alpha/ada",), limit=2)
    for found in await index.query([near, msgspec.structs.replace(near, ties=1e-4, most=9)]):
        assert [h.item.seq for h in found] == [2]
    assert [i.seq for i in await index.scan("alpha/ada")] == [2]
    assert await index.retrieve(["event-9"]) == []
    assert [i.seq for i in await index.matching([points_hash(bad), points_hash(item(2))])] == [2]


def points_hash(item: MemoryItem) -> str:
    return exact_key(item.owner, item.kind, item.about, item.text)


async def test_a_query_sees_its_owners_only_and_no_owner_sees_nothing(index: VectorIndex) -> None:
    await index.write(
        [(item(1), vector(1)), (item(2, persona="bob"), vector(1)), (item(3, swarm="beta"), vector(1))], cursors={"": 3}
    )
    owners = [("alpha/ada",), ("alpha/bob", "beta/ada"), (), ("alpha",), ("*",)]
    answers = await index.query([Query(vector=vector(1), owners=o, limit=9) for o in owners])
    assert [sorted(h.item.seq for h in hits) for hits in answers] == [[1], [2, 3], [], [], []]


async def test_writing_again_replaces_and_dropping_removes(index: VectorIndex) -> None:
    await index.write([(item(1), vector(1)), (item(2), vector(0, 1))])
    await index.write([(item(1, text="other", merged=("event-9",)), vector(1))], drop=["event-2"], cursors={"": 9})
    assert [i.text for i in await index.scan("alpha/ada")] == ["other"]
    assert (await index.count(), await index.count("alpha/ada"), await index.count("alpha/bob")) == (1, 1, 0)
    assert await index.retrieve(["event-2"]) == []
    assert await index.matching([exact_key("alpha/ada", "thought", "", "text 1")]) == []
    await index.write(drop=["never-there"])
    assert await index.count() == 1


async def test_cursors_move_with_what_is_written_and_are_no_items(index: VectorIndex) -> None:
    assert await index.cursors() == {}
    await index.write(cursors={"": 5})
    await index.write([(item(1), vector(1))], cursors={"": 6, "alpha/ada": 4})
    assert await index.cursors() == {"": 6, "alpha/ada": 4}
    assert await index.count() == 1
    await index.write()
    assert await index.cursors() == {"": 6, "alpha/ada": 4}


async def test_marks_are_written_with_the_cursor_of_the_log_and_forgotten_with_it(index: VectorIndex) -> None:
    assert () == await index.marks()
    marks = (Mark(6, "event-6", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)), Mark(4, "event-4"))
    await index.write([(item(1), vector(1))], cursors={LOG: 6, "alpha/ada": 4}, marks=marks)
    await index.write(cursors={"alpha/ada": 5})
    assert (marks, {LOG: 6, "alpha/ada": 5}) == (await index.marks(), await index.cursors())
    await index.clear()
    assert () == await index.marks()


async def test_a_cleared_index_is_empty_and_takes_what_comes(index: VectorIndex) -> None:
    await index.write([(item(1), vector(1))], cursors={"": 6, "alpha/ada": 4})
    await index.clear()
    assert (0, {}) == (await index.count(), await index.cursors())
    await index.write([(item(2), vector(2))], cursors={"": 2})
    assert (1, {"": 2}) == (await index.count(), await index.cursors())


async def test_asking_for_nothing_finds_nothing(index: VectorIndex) -> None:
    await index.write([(item(1), vector(1))])
    assert (await index.query([]), await index.retrieve([]), await index.matching([])) == ([], [], [])
    assert await index.scan("alpha/nobody") == []


async def test_more_than_a_page_is_listed_completely_and_in_order(index: VectorIndex) -> None:
    await index.write([(item(n), vector(1, n)) for n in range(2500)])
    assert [i.seq for i in await index.scan("alpha/ada")] == list(range(2500))


async def test_a_server_that_is_away_fails_within_seconds_and_says_so() -> None:
    began = time.monotonic()
    with pytest.raises(IndexUnavailable, match="the Qdrant server failed"):
        await ServerIndex.open("http://127.0.0.1:9", "memory", DIM, timeout_s=2)
    assert time.monotonic() - began < 10


async def test_an_index_belongs_to_one_process(tmp_path: Path) -> None:
    index = await EdgeIndex.open(tmp_path / "index", DIM)
    with pytest.raises(IndexInUse, match="open in another process"):
        await EdgeIndex.open(tmp_path / "index", DIM)
    await index.close()
    await (await EdgeIndex.open(tmp_path / "index", DIM)).close()


async def test_a_closed_index_is_opened_with_all_it_had(tmp_path: Path) -> None:
    index = await EdgeIndex.open(tmp_path / "index", DIM)
    await index.write([(item(1), vector(1))], cursors={"": 1})
    await index.close()
    index = await EdgeIndex.open(tmp_path / "index", DIM)
    assert (await index.count(), await index.cursors()) == (1, {"": 1})
    await index.close()
    with pytest.raises((IndexUnavailable, RuntimeError)):
        await index.count()


@pytest.mark.parametrize("broken", ["segments", "wal", "edge_config.json", "everything"])
async def test_an_unreadable_index_is_moved_aside_and_begun_anew(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "index"
    index = await EdgeIndex.open(folder, DIM)
    await index.write([(item(1), vector(1))], cursors={"": 1})
    await index.close()
    if broken == "everything":
        shutil.rmtree(folder)
    files = [f for f in folder.rglob("*") if f.is_file() and broken in str(f.relative_to(folder))]
    for file in files:
        with file.open("r+b") as handle:
            handle.write(b"\xff" * 64)
    index = await EdgeIndex.open(folder, DIM)
    assert (await index.count(), await index.cursors()) == (0, {})
    await index.close()
    assert bool(list(tmp_path.glob("index.broken-*"))) is (broken != "everything")


async def test_what_a_kill_during_the_first_opening_left_out_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(points, "KEYWORDS", points.KEYWORDS[:1])
        await (await EdgeIndex.open(tmp_path / "index", DIM)).close()
    index = await EdgeIndex.open(tmp_path / "index", DIM)
    assert set(index._shard.info().payload_schema) == set(points.KEYWORDS)
    await index.close()


async def test_an_index_of_another_dimension_is_moved_aside(tmp_path: Path) -> None:
    await (await EdgeIndex.open(tmp_path / "index", DIM)).close()
    index = await EdgeIndex.open(tmp_path / "index", 2 * DIM)
    assert await index.count() == 0
    await index.close()


WRITER = """
import asyncio, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from tests.contract.memory.test_vector_index import item, vector
from shared.memory.index.edge import EdgeIndex

async def main():
    index = await EdgeIndex.open(Path(sys.argv[1]), 8, flush_s=0.05)
    n = 0
    while True:
        rows = [(item(n + k), vector(1, n + k)) for k in range(10)]
        n += 10
        await index.write(rows, drop=[f"event-{n - 15}"], cursors={"": n})
        print(n, flush=True)

asyncio.run(main())
"""


async def test_a_writer_killed_at_any_moment_leaves_whole_transactions_and_a_cursor_that_does_not_lead(
    tmp_path: Path,
) -> None:
    """What it acknowledged is there; what is there beyond the cursor would be folded again, and there is none."""
    root = Path(__file__).parents[3]
    folder = tmp_path / "index"
    acknowledged = 0
    for lines in (3, 40, 150):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(root)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        assert writer.stdout is not None
        for _ in range(lines):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = int(([str(acknowledged), *writer.stdout.read().split()])[-1])
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        index = await EdgeIndex.open(folder, DIM)
        cursor = (await index.cursors())[""]
        present = {i.seq for i in await index.scan("alpha/ada")}
        await index.close()
        assert acknowledged <= cursor <= acknowledged + 10
        dropped = {n - 15 for n in range(20, cursor + 1, 10)}
        assert present == set(range(cursor)) - dropped
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ("PointsList", {"points": [{"id": -1, "vector": {}}]}),
        ("PointsList", {"points": [{"id": 1, "vector": {}, "playload": {}}]}),
        ("ScrollRequest", {"limit": 0}),
        ("QueryRequestBatch", {"searches": [{"limit": "many"}]}),
    ],
)
def test_the_servers_document_refuses_what_is_no_request(schema: str, body: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check({"$ref": f"#/components/schemas/{schema}"}, body)
