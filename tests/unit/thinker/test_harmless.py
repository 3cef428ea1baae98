"""Whatever logs and models say, what thinkers propose to write down is fit to be shown."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from shared.contracts.action import Action
from shared.contracts.action_kinds import classify, read
from shared.contracts.events import CheckResult, EvidenceRef, LogCount
from shared.contracts.kinds.files import FileWrite
from shared.contracts.persona import Identity
from shared.contracts.text import lines, plain
from shared.thinker.models.prompt import compose, interpret
from shared.thinker.models.schema import Compressed, Intended
from shared.thinker.port import Context, Finding, OpenHypothesis, Percept, ProposalDraft
from shared.thinker.rules import RuleThinker

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
REFS = (EvidenceRef(id="o-1", seq=1),)
TEXT = st.text(st.characters(), min_size=1, max_size=60) | st.lists(
    st.sampled_from(
        ["<script>", "</b>", "`", "\n", "# ", "![x](http://e)", "](", "\x1b[2J", "\u202e", "a", " ", "\\", "<!--"]
    ),
    min_size=1,
    max_size=12,
).map("".join)


def context(name: str, topic: str, claim: str, said: str, sample: str) -> Context:
    finding = Finding(
        topic=topic,
        kind="burst",
        seq=1,
        claim=claim,
        confidence=0.9,
        evidence=REFS,
        probe=LogCount(template=sample, source=said, first_seq=1, last_seq=1, at_least=1),
        source=said,
        sample=sample,
    )
    result = CheckResult(
        swarm="alpha", persona="ada", check_id="c-1", hypothesis_id="h-1", outcome="confirmed", findings=said
    )
    hypothesis = OpenHypothesis(
        hypothesis_id="h-1", topic=topic, claim=claim, confidence=0.9, evidence=REFS, finding=finding, result=result
    )
    identity = Identity(id="ada", name=name, role="r", charter="c", swarm_id="alpha", created_at=NOW)
    return Context(
        identity=identity, phase="compress", cycle=1, step=1, now=NOW, percept=Percept(), hypotheses=(hypothesis,)
    )


def assert_harmless(draft: ProposalDraft) -> None:
    assert draft.title == plain(draft.title, 72) and draft.rationale == lines(draft.rationale, 900)
    params = read(draft.action)
    assert isinstance(params, FileWrite), params
    assert "low" == classify(draft.action, "alpha", "ada")


@given(st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT))
def test_a_report_by_rules_shows_text_from_outside_as_code_and_nothing_else(
    texts: tuple[str, str, str, str, str],
) -> None:
    (draft,) = asyncio.run(RuleThinker().think(context(*texts))).proposals
    assert_harmless(draft)
    tokens = MarkdownIt("commonmark").parse(str(draft.action.params["content"]))
    assert 4 == sum(t.type == "heading_open" for t in tokens)
    assert not any(t.type in ("fence", "code_block", "blockquote_open", "hr") for t in tokens)


@given(TEXT, TEXT, TEXT, st.text(max_size=60))
def test_a_report_by_a_model_is_made_fit_to_be_shown(title: str, rationale: str, content: str, path: str) -> None:
    prompt = compose(context("Ada", "t", "c", "f", "s"))
    said = Intended(
        kind="file.write", path=path, content=content, title=title, rationale=rationale, hypothesis=1, evidence=[1]
    )
    for draft in interpret(prompt, Compressed(text="t", proposals=[said])).proposals:
        assert_harmless(draft)


def test_a_report_that_is_not_fit_is_none() -> None:
    prompt = compose(context("Ada", "t", "c", "f", "s"))
    said = Intended(kind="file.write", path="a", content="<b>", title="t", rationale="r", hypothesis=1, evidence=[])
    (draft,) = interpret(prompt, Compressed(text="t", proposals=[said])).proposals
    assert "&lt;b>" == draft.action.params["content"]
    bad: Action = msgspec.structs.replace(draft.action, params={**draft.action.params, "content": "<b>"})
    assert not isinstance(read(bad), FileWrite)
