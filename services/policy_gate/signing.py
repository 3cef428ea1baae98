"""Signing verdicts with the seed the log says is good, and no other: the only holder of verdict keys.

A gate may have several seeds, old and new. It goes by the log at each evaluation: the newest of the keys that stand there of which it has
the seed. So nothing is to be started anew for a rotation; while the new seed has not reached this gate, it signs with the old one as
long as that is good, and after that with none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from shared.contracts.events import ProposalAuthorized
from shared.contracts.ids import utc_now
from shared.crypto import is_good, public_key, sign_verdict
from shared.log.port import LogUnavailable
from shared.settings import SettingsError, Verdict, read_text
from shared.signers import NOBODY, Followed, Signers

log = structlog.get_logger()

MARGIN = timedelta(seconds=10)
"""Before a key ends it is used no more: a verdict is stored after it is signed, by the broker's clock."""


class NoKey(LogUnavailable):
    """No verdict can be signed now; deliveries are tried again."""


def seeds_of(text: str) -> dict[str, str]:
    """Seeds by lines, by their public keys. Raises `SettingsError`, without repeating any."""
    try:
        return {public_key(seed): seed for seed in text.split()}
    except ValueError as error:
        raise SettingsError(f"SWARM_VERDICT_SEED: {error}") from error


class Signing:
    """`seeds` by their public keys; `file` is read again for one that is not among them."""

    def __init__(
        self,
        followed: Followed,
        seeds: dict[str, str],
        file: Path | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.followed, self._seeds, self._file, self._clock = followed, seeds, file, clock
        self._signer = ""

    @classmethod
    def of(cls, settings: Verdict, followed: Followed) -> Signing:
        """Raises `SettingsError`."""
        if not settings.seed_file:
            return cls(followed, seeds_of(settings.seed))
        seeds = seeds_of(read_text("SWARM_VERDICT_SEED_FILE", settings.seed_file))
        if not seeds:
            raise SettingsError(f"SWARM_VERDICT_SEED_FILE={settings.seed_file}: there is no seed in it")
        return cls(followed, seeds, Path(settings.seed_file))

    def __repr__(self) -> str:
        return f"Signing({', '.join(self._seeds)})"  # never a seed

    async def sign(self, verdict: ProposalAuthorized) -> ProposalAuthorized:
        """By the last look, which the evaluation before it took. A word that is said since may as well be said between signing and
        storing; whoever acts judges by the verdict's own place in the log. Raises `NoKey`, `LogUnavailable`."""
        signer = await self._current()
        key, signature = sign_verdict(self._seeds[signer], verdict)
        return msgspec.structs.replace(verdict, key=key, signature=signature)

    async def unready(self) -> str | None:
        """Why nothing can be signed now."""
        try:
            await self.followed.look()
            await self._current()
        except LogUnavailable as error:
            return str(error)
        return None

    async def _current(self) -> str:
        known = self.followed.known
        if not known.words:
            raise NoKey(NOBODY)
        if known.now and known.now[-1].key not in self._seeds:
            await self._read_again()
        by = self._clock() + MARGIN
        signer = next((s.key for s in reversed(known.now) if s.key in self._seeds and is_good(s, by)), None)
        if signer is None:
            raise NoKey(_none_is_ours(known))
        if signer != self._signer:
            log.info("gate_signs", signer=signer, number=known.number)
            self._signer = signer
        return signer

    async def _read_again(self) -> None:
        """What cannot be read now is tried at the next verdict."""
        if self._file is None:
            return
        try:
            text = await asyncio.to_thread(read_text, "SWARM_VERDICT_SEED_FILE", str(self._file))
            self._seeds = seeds_of(text) or self._seeds
        except SettingsError as error:
            log.warning("seeds_not_read", why=str(error))


def _none_is_ours(known: Signers) -> str:
    keys = ", ".join(signer.key for signer in known.now) or "none"
    return (
        f"of the keys of verdicts that are good by the log ({keys}, number {known.number}) this gate has no seed: "
        "give it the newest verdict-seed, or run the bootstrap with the newest signers.json"
    )
