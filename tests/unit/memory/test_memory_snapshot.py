"""The snapshot format: deterministic, versioned, and suspicious of what it reads."""

from __future__ import annotations

import random

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from test_memory_compaction import item

from shared.memory import snapshot
from shared.memory.port import ColdCorrupt
from shared.memory.snapshot import MAX_SUMMARY_CHARS, UnknownVersion, capture, decode


def test_the_same_items_in_any_order_give_the_same_bytes_and_key() -> None:
    items = [item(n, text=f"thought {n}") for n in range(50)]
    shuffled = random.Random(1).sample(items, len(items))
    one, two = capture("alpha", "ada", items), capture("alpha", "ada", shuffled)
    assert (one.data, one.key) == (two.data, two.key)
    assert decode(one.data).items == tuple(items)


def test_a_snapshot_of_a_newer_format_is_named_as_such() -> None:
    captured = capture("alpha", "ada", [item(1)])
    raw = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(captured.data))
    newer = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([2, *raw[1:], "a new field"]))
    with pytest.raises(UnknownVersion, match="version 2, this release reads 1"):
        decode(newer)


@given(st.binary(max_size=300))
def test_garbage_is_corrupt_and_nothing_else(data: bytes) -> None:
    for body in (data, zstandard.ZstdCompressor().compress(data)):
        with pytest.raises((ColdCorrupt, UnknownVersion)):
            decode(body)


def test_the_summary_is_bounded_and_leads_with_the_last_distillation() -> None:
    items = [item(n, text="long " * 200, pinned=True) for n in range(50)]
    items.append(item(99, text="the newest distillation", phase="compress"))
    summary = capture("alpha", "ada", items).snapshot.summary
    assert summary.startswith("[thought] the newest distillation\n")
    assert len(summary) <= MAX_SUMMARY_CHARS


def test_a_snapshot_that_claims_to_be_huge_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_BYTES", 10_000)
    for declared in (True, False):
        huge = zstandard.ZstdCompressor(write_content_size=declared).compress(msgspec.msgpack.encode([1, "x" * 20_000]))
        with pytest.raises(ColdCorrupt, match=r"no readable snapshot: (it claims|decompression error)"):
            decode(huge)
