"""ModelThinker: thinking by a language model behind an OpenAI-compatible endpoint, or several in order of preference.

One step is at most `TURNS` answered calls: the question, and one repair when the answer is not valid. Busy or broken
endpoints are retried (`ATTEMPTS`, backoff, `Retry-After`) and then left for the next; a sick one rests (`endpoint.Breaker`).
A call that times out may be billed, so it counts as a turn and as its whole estimate.

Estimate: tokens in = bytes / 3 of messages and schema, tokens out = the output limit; the repair turn carries the question,
the bad answer and one sentence. `worst_case` is the sum over `TURNS`, at the dearest endpoint. Common tokenizers stay below;
a server that exceeds the limits it was given shows in the usage it reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import httpx
import msgspec
import stamina

from shared.contracts.events import Usage
from shared.metrics.table import ASKS_REFUSED, MODEL_SECONDS, PROPOSALS_LEFT_OUT
from shared.thinker.models.endpoint import MAX_WAIT_S, Breaker, Endpoint, Said, Transient, Unfit, call, estimate_tokens
from shared.thinker.models.prompt import Prompt, compose, interpret
from shared.thinker.models.schema import Answer, Json, decode, strict_schema
from shared.thinker.port import Context, ThinkerFailed, ThinkerUnavailable, Thought

TURNS = 2
ATTEMPTS = 3
WORST_MS = 250
"""Our own compute in a step; waiting for an endpoint is not compute."""
_REPAIR_TOKENS = 200


class ModelThinker:
    """Holds one HTTP client and a breaker per endpoint; `close` it. `clock` is monotonic seconds.

    `retry_wait_s` is the first backoff between attempts. Raises `ValueError` without endpoints.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], *, retry_wait_s: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not endpoints:
            raise ValueError("a model thinker needs at least one endpoint")
        self.name = f"model:{endpoints[0].model}"[:120]
        self._endpoints = [(endpoint, Breaker(clock)) for endpoint in endpoints]
        self._retry_wait_s = retry_wait_s
        self._client = httpx.AsyncClient(
            follow_redirects=False, trust_env=False, timeout=httpx.Timeout(None, connect=5.0)
        )

    async def close(self) -> None:
        await self._client.aclose()

    def worst_case(self, context: Context) -> Usage:
        prompt = compose(context)
        asked = estimate_tokens(prompt.system + prompt.user) + estimate_tokens(str(_schema(context)))
        out = max(endpoint.max_output_tokens for endpoint, _ in self._endpoints)
        tokens_in, tokens_out = TURNS * asked + (TURNS - 1) * (out * 2 + _REPAIR_TOKENS), TURNS * out
        cost = max(endpoint.cost(tokens_in, tokens_out) for endpoint, _ in self._endpoints)
        return Usage(tokens_in=tokens_in, tokens_out=tokens_out, compute_ms=WORST_MS, cost_microusd=cost)

    async def think(self, context: Context) -> Thought:
        """One step. Raises `ThinkerUnavailable` or `ThinkerFailed`, each with what was spent."""
        began = time.perf_counter()
        prompt = compose(context)
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
        own_ms = (time.perf_counter() - began) * 1000
        spent = Usage(compute_ms=min(round(own_ms), WORST_MS))
        turns, troubles, rests = 0, [], []
        for endpoint, breaker in self._endpoints:
            if turns < TURNS and not breaker.admits():
                rests.append(breaker.rests_s())
                troubles.append(f"{endpoint.model} rests for {breaker.rests_s():.0f} s")
                continue
            while turns < TURNS:
                try:
                    said = await self._ask(endpoint, messages, context)
                except Transient as error:
                    breaker.failed(error.retry_after_s)
                    rests.append(breaker.rests_s() or error.retry_after_s or 5.0)
                    troubles.append(f"{endpoint.model}: {error}")
                    break
                except Unfit as error:
                    breaker.failed()
                    spent = _sum(spent, error.usage)
                    turns += error.usage.tokens > 0
                    troubles.append(f"{endpoint.model}: {error}")
                    break
                breaker.succeeded()
                turns += 1
                spent = _sum(spent, said.usage)
                answer = _decoded(prompt, said.content)
                if not isinstance(answer, str):
                    thought = interpret(prompt, answer)
                    for reason in thought.refused:
                        ASKS_REFUSED.by[reason] += 1
                    for why in thought.left_out:
                        PROPOSALS_LEFT_OUT.by[why] += 1
                    return msgspec.structs.replace(thought, usage=spent, model=endpoint.model[:120])
                if turns >= TURNS:
                    raise ThinkerFailed(f"{endpoint.model} gave no valid answer: {answer}", usage=spent)
                messages = [*messages[:2], *_repair(said.content, answer, endpoint)]
        raise ThinkerUnavailable("; ".join(troubles)[:900], retry_after_s=min(rests, default=5.0), usage=spent)

    async def _ask(self, endpoint: Endpoint, messages: list[dict[str, str]], context: Context) -> Said:
        schema = _schema(context)
        async for attempt in stamina.retry_context(
            on=_wait, attempts=ATTEMPTS, timeout=None, wait_initial=self._retry_wait_s, wait_jitter=self._retry_wait_s
        ):
            with attempt, _timed():
                return await call(self._client, endpoint, messages, schema)
        raise AssertionError("the last attempt returns or raises")


@contextmanager
def _timed() -> Iterator[None]:
    """One call, by how it went."""
    began, outcome = time.perf_counter(), "ok"
    try:
        yield
    except (Transient, Unfit) as error:
        outcome = "busy" if isinstance(error, Transient) else "unfit"
        raise
    finally:
        MODEL_SECONDS.observe(time.perf_counter() - began, outcome)


def _wait(error: Exception) -> bool | float:
    """Whether to try again, and when, if the server said so."""
    if not isinstance(error, Transient):
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= MAX_WAIT_S else False


def _schema(context: Context) -> dict[str, Json]:
    return strict_schema(context.phase, asked=context.goal is not None)


def _decoded(prompt: Prompt, content: str) -> Answer | str:
    """The answer, or what is wrong with it."""
    if not content.strip():
        return "the answer is empty"
    try:
        return decode(prompt.context.phase, content, asked=prompt.context.goal is not None)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return str(error)[:300]


def _repair(content: str, trouble: str, endpoint: Endpoint) -> list[dict[str, str]]:
    """The bad answer, cut to its limit, and what to do about it."""
    return [
        {"role": "assistant", "content": content[: 3 * endpoint.max_output_tokens] or "(nothing)"},
        {
            "role": "user",
            "content": f"That is not valid: {trouble}. Answer again: one JSON object of the schema, shorter, nothing else.",
        },
    ]


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        tokens_in=one.tokens_in + other.tokens_in,
        tokens_out=one.tokens_out + other.tokens_out,
        compute_ms=one.compute_ms + other.compute_ms,
        cost_microusd=one.cost_microusd + other.cost_microusd,
    )
