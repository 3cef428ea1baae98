"""A bundle beside the one in force: asked what it would have said, counted where it differs, never in force.

It is looked at like the folder of policies, or is what a person
picked (`policy.picked`), which goes before; one that is bad, or not there, is none. It is asked after the policies in force, and only
by what it would say are differences told: what it fails on is a refusal, as it would be.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import structlog

from shared.log.port import KeyValue
from shared.metrics.table import POLICY_SHADOW
from shared.policy.bundle import BadBundle, Bundle, Contents, read_folder, version_of
from shared.policy.picks import Picks, contents_of
from shared.policy.types import PolicyDecision, PolicyRequest

log = structlog.get_logger()


def outcome(as_is: PolicyDecision, with_people: PolicyDecision) -> str:
    """What follows from the two answers: permitted, asked (people are), refused."""
    return "permitted" if as_is.allow else "asked" if with_people.allow else "refused"


class Shadow:
    """`folder` None: there is none. `trouble` says why it is not asked, where it should be."""

    def __init__(self, folder: Path | None, picks: Picks | None = None, store: KeyValue | None = None) -> None:
        self._folder, self._picks, self._store = folder, picks, store
        self._seen = ""
        self.bundle: Bundle | None = None
        self.trouble: str | None = None

    async def look(self) -> None:
        """Take up what was picked, else what the folder holds now. Raises `LogUnavailable`."""
        try:
            contents = await self._contents()
            if contents is None:
                self.bundle, self.trouble, self._seen = None, None, ""
                return
            if (version := version_of(contents)) == self._seen:
                return
            self._seen = version
            self.bundle = await asyncio.to_thread(Bundle.of, contents, "the shadow")
        except BadBundle as error:
            self.bundle, self.trouble = None, str(error)
            log.error("policy_shadow_refused", why=self.trouble)
            return
        self.trouble = None
        log.info("policy_shadow", version=version)

    async def _contents(self) -> Contents | None:
        if self._picks is not None and self._store is not None:
            await self._picks.look()
            if (pick := self._picks.shadow) is not None and pick.event.which:
                return await contents_of(self._store, pick.event.which)
        if self._folder is None or not await asyncio.to_thread(self._folder.is_dir):
            return None
        return await asyncio.to_thread(read_folder, self._folder)

    def compare(self, request: PolicyRequest, agreed: PolicyRequest, said: str) -> None:
        """Ask it the same, and tell a difference. `agreed`: as if people had said yes."""
        if self.bundle is None:
            return
        as_is = self.bundle.decide(request)
        with_people = as_is if as_is.allow else self.bundle.decide(agreed)
        would = outcome(as_is, with_people)
        POLICY_SHADOW.by["same" if would == said else f"{said}_{would}"] += 1
        if would != said:
            which = with_people if would == "refused" else as_is
            log.info(
                "policy_shadow_differs",
                said=said,
                would=would,
                policies=list(which.policy_ids),
                errors=list(which.errors),
                version=self.bundle.version,
                **{name: getattr(request, name) for name in ("swarm", "persona", "action", "target", "risk", "digest")},
                **msgspec.to_builtins({"tainted": request.tainted, "labels": request.labels, "scope": request.scope}),
            )
