"""One OpenAI-compatible endpoint: one bounded call, and a breaker that leaves a sick endpoint alone.

Breaker (Nygard, "Release It!"): after `FAILURES` failures in a row the endpoint rests for `REST_S`; then one call may try,
and its outcome closes or reopens it. A `Retry-After` longer than we wait makes it rest for so long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from shared.contracts.events import Usage
from shared.thinker.models.schema import Json

FAILURES = 3
REST_S, TRIAL_S = 30.0, 5.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_WAIT_S = 10.0
"""The longest `Retry-After` that is waited for within a call; beyond, the next endpoint is asked."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model answers: `base_url` such as `https://host/v1`. Prices in micro-USD per million tokens.

    `api_key` is never logged, nor shown by `repr`. `timeout_s` bounds one call as a whole, `max_output_tokens` its answer.
    """

    base_url: str
    model: str
    api_key: str = ""
    timeout_s: float = 30.0
    max_output_tokens: int = 1024
    input_microusd_per_mtok: int = 0
    output_microusd_per_mtok: int = 0

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, {self.model!r})"

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")) or not _host(self.base_url):
            raise ValueError(
                f"an endpoint's base_url must be http://host… or https://host…, not {self.base_url[:80]!r}"
            )
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise ValueError("an endpoint's api_key must be printable ASCII without spaces")
        if self.timeout_s <= 0 or self.max_output_tokens < 1:
            raise ValueError("an endpoint's timeout_s must be above 0 and its max_output_tokens at least 1")

    def cost(self, tokens_in: int, tokens_out: int) -> int:
        """Micro-USD, rounded up."""
        return math.ceil(
            (tokens_in * self.input_microusd_per_mtok + tokens_out * self.output_microusd_per_mtok) / 1_000_000
        )


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return ""


class Transient(Exception):
    """Worth another try here: `retry_after_s` is what the server asked for."""

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unfit(Exception):
    """Not worth another try here. `usage` is what may have been spent (a call that timed out is assumed to be billed)."""

    def __init__(self, detail: str, usage: Usage | None = None) -> None:
        super().__init__(detail)
        self.usage = usage or Usage()


class Said(msgspec.Struct, frozen=True):
    """An answer's text and cost; `content` is empty when there was none."""

    content: str
    usage: Usage


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Tokens | None = None


_COMPLETION = msgspec.json.Decoder(_Completion)


def estimate_tokens(text: str) -> int:
    """A conservative estimate: a token per three bytes of UTF-8 (common tokenizers need four for English, three for code)."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


class Breaker:
    """Lets calls through until `FAILURES` in a row failed; `clock` is in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def rests_s(self) -> float:
        """Seconds until a call may be tried; 0 when it may now."""
        return max(0.0, self._until - self._clock())

    def admits(self) -> bool:
        """Whether to call now. After a rest one caller may, and `TRIAL_S` later the next if its outcome is not known yet."""
        if self.rests_s() > 0:
            return False
        if self._until:
            self._until = self._clock() + TRIAL_S
        return True

    def succeeded(self) -> None:
        self._failures, self._until = 0, 0.0

    def failed(self, rest_s: float | None = None) -> None:
        """Note a failure. `rest_s` is the server's own word on when to come again."""
        self._failures += 1
        if rest_s is not None and rest_s > MAX_WAIT_S:
            self._until = self._clock() + min(rest_s, 600.0)
        elif self._failures >= FAILURES:
            self._until = self._clock() + REST_S


async def call(
    client: httpx.AsyncClient, endpoint: Endpoint, messages: list[dict[str, str]], schema: dict[str, Json]
) -> Said:
    """Ask once. Raises `Transient` (busy, broken or away) or `Unfit` (refuses, or does not speak the protocol, or too slow)."""
    body: dict[str, Json] = {
        "model": endpoint.model,
        "messages": [dict(message) for message in messages],
        "max_tokens": endpoint.max_output_tokens,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "thought", "strict": True, "schema": schema},
        },
    }
    tokens_in = estimate_tokens("".join(message["content"] for message in messages)) + estimate_tokens(str(schema))
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    try:
        async with (
            asyncio.timeout(endpoint.timeout_s),
            client.stream(
                "POST",
                f"{endpoint.base_url.rstrip('/')}/chat/completions",
                content=msgspec.json.encode(body),
                headers=headers,
            ) as response,
        ):
            _refusal(response)
            raw = bytearray()
            async for part in response.aiter_raw():
                raw += part
                if len(raw) > MAX_ANSWER_BYTES:
                    raise Unfit(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", _billed(endpoint, tokens_in))
    except (TimeoutError, httpx.ReadTimeout) as error:
        raise Unfit(f"no whole answer within {endpoint.timeout_s:g} s", _billed(endpoint, tokens_in)) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Transient(f"{type(error).__name__}: {str(error)[:200]}") from error
    return _said(endpoint, bytes(raw), tokens_in)


def _refusal(response: httpx.Response) -> None:
    status = response.status_code
    if status == 429 or status in (408, 409, 425) or status >= 500:
        raise Transient(f"status {status}", _retry_after(response.headers.get("retry-after", "")))
    if status != 200:
        raise Unfit(f"status {status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unfit("the answer is compressed, which was not asked for: its size has no bound")


def _retry_after(value: str) -> float | None:
    """Seconds, or an HTTP date (RFC 9110 section 10.2.3)."""
    try:
        return min(max(0.0, float(value)), 86_400.0) if value and value[0].isdigit() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(value: str) -> float | None:
    return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()) if value else None


def _billed(endpoint: Endpoint, tokens_in: int) -> Usage:
    out = endpoint.max_output_tokens
    return Usage(tokens_in=tokens_in, tokens_out=out, cost_microusd=endpoint.cost(tokens_in, out))


def _said(endpoint: Endpoint, raw: bytes, tokens_in: int) -> Said:
    try:
        completion = _COMPLETION.decode(raw)
        content = completion.choices[0].message.content or ""
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError, RecursionError) as error:
        raise Unfit(f"not a chat completion: {str(error)[:200]}", _billed(endpoint, tokens_in)) from error
    told = completion.usage
    if told is not None and told.prompt_tokens > 0:
        spent_in, spent_out = told.prompt_tokens, max(0, told.completion_tokens)
    else:
        spent_in, spent_out = tokens_in, estimate_tokens(content)
    return Said(
        content, Usage(tokens_in=spent_in, tokens_out=spent_out, cost_microusd=endpoint.cost(spent_in, spent_out))
    )
