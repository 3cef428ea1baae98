"""Same, similar or different: opposites must never merge, near-verbatim text should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.memory.dedup import Said, exact_key, guard, normalise
from shared.memory.dedup import compare as compare_said
from shared.memory.index.embeddings import WordLlamaEmbedder

OPPOSITES = [
    ("The deployment succeeded on all nodes", "The deployment failed on all nodes"),
    ("The service is up", "The service is down"),
    ("The service is healthy", "The service is not healthy"),
    ("Disk usage rose to 91 percent", "Disk usage rose to 19 percent"),
    ("Disk usage rises on db-1", "Disk usage rises on db-2"),
    ("Disk usage rises every hour", "Disk usage falls every hour"),
    ("Root may log in", "Root may not log in"),
    ("The proposal was accepted by the reviewer", "The proposal was rejected by the reviewer"),
    ("The gateway blames the broker", "The broker blames the gateway"),
    ("Traffic goes from alpha to beta", "Traffic goes from beta to alpha"),
    ("Latency is above the limit", "Latency is below the limit"),
    ("The alert is true", "The alert is false"),
    ("We can restart the queue safely", "We can't restart the queue safely"),
    ("The backup finished", "The backup almost finished"),
    ("Restart the node", "Restart the node only if the disk is full"),
    ("The cache was enabled before the incident", "The cache was enabled after the incident"),
    ("All checks passed", "Some checks passed"),
    ("Memory use is more than expected", "Memory use is less than expected"),
    ("Three logins failed", "Four logins failed"),
    ("The certificate expires in 30 days", "The certificate expires in 3 days"),
    ("Replica lag is increasing", "Replica lag is decreasing"),
    ("The port is open", "The port is closed"),
    ("Writes are allowed and reads are denied", "Reads are allowed and writes are denied"),
    ("The error rate went up by 5%", "The error rate went down by 5%"),
    ("Nobody logged in at night", "Somebody logged in at night"),
    ("The test was stopped", "The test was started"),
    ("Value is > 5", "Value is < 5"),
    ("The key is valid until Friday", "The key is valid from Friday"),
    ("Enable the kill switch", "Disable the kill switch"),
    ("p01 trusts p02", "p02 trusts p01"),
]
PARAPHRASES = [
    ("The ssh daemon refuses logins of root", "Root cannot get in over secure shell"),
    ("The disk is almost full", "There is hardly any space left on the drive"),
    ("Requests take too long", "The service answers slowly"),
]
VERBATIM = [
    ("Nothing new was observed.", "nothing   new was observed"),
    ("The ssh daemon refused 41 logins of root", "The ssh daemon refused 41 logins of root!"),
    (
        "the backup job of db-1 finished and the archive was uploaded to storage",
        "the nightly backup job of db-1 finished and the archive was uploaded to storage",
    ),
    ("The queue grows steadily since the morning deploy", "The queue grows steadily since the deploy"),
    (
        "memory of worker-3 keeps growing and nothing is freed",
        "The memory of worker-3 keeps growing and nothing is freed",
    ),
]


@pytest.mark.parametrize(("a", "b"), OPPOSITES)
def test_opposites_are_never_the_same_not_even_at_cosine_one(a: str, b: str) -> None:
    assert compare(a, b, 1.0) == "similar"
    assert compare(b, a, 1.0) == "similar"


async def test_cosine_alone_would_have_merged_many_of_the_opposites(embedder: WordLlamaEmbedder) -> None:
    cosines = [await cosine(embedder, a, b) for a, b in OPPOSITES]
    assert sum(c >= 0.90 for c in cosines) >= 10


@pytest.mark.parametrize(("a", "b"), VERBATIM)
async def test_near_verbatim_text_is_the_same(embedder: WordLlamaEmbedder, a: str, b: str) -> None:
    assert compare(a, b, await cosine(embedder, a, b)) == "same"


@pytest.mark.parametrize(("a", "b"), PARAPHRASES)
async def test_paraphrases_are_never_merged(embedder: WordLlamaEmbedder, a: str, b: str) -> None:
    assert compare(a, b, await cosine(embedder, a, b)) != "same"


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_guard_is_total_and_does_not_care_for_the_order_of_its_texts(a: str, b: str) -> None:
    assert guard(Said(a), Said(b)) == guard(Said(b), Said(a))
    assert guard(Said(a), Said(a))


@given(st.text(max_size=200))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_exact_keys_differ_by_owner_kind_and_subject() -> None:
    keys = {
        exact_key(owner, kind, about, "nothing new")
        for owner in ("a/x", "a/y")
        for kind in ("thought", "action")
        for about in ("", "p-1")
    }
    assert len(keys) == 8
    assert exact_key("a/x", "thought", "", " Nothing  NEW. ") in keys


def compare(a: str, b: str, cosine: float) -> str:
    return compare_said(Said(a), Said(b), cosine)


async def cosine(embedder: WordLlamaEmbedder, a: str, b: str) -> float:
    rows = await embedder.embed([a, b])
    return float(np.dot(rows[0], rows[1]))
