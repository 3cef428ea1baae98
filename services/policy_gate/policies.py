"""The policies a gate decides by: those the log says are in force, whoever activated them.

Theory of operation. A gate watches its folder. What it finds changed there it validates, proves, stores under its digest, and
activates by one event, guarded by the last activation; all gates decide by the newest, which they load from the store and not from
one another's folders. Before each decision the log is asked for what was activated since.

What a person picked (`policy.picked`) is activated like that too, unless something was activated after it: the newest word is in force,
whichever way it came. A folder that is a link is changed when the link is set anew, whatever is behind it.

At its start a gate activates what its folder holds if that was never in force, or if it was this very gate that activated from it what is
in force now, so its folder has changed since. Else somebody activated something newer, and a folder nobody has touched since is old.

Invariants: what decides is in force when the decision begins; a bad bundle changes nothing but what is said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from shared.contracts.envelope import Message, enveloped
from shared.contracts.events import PolicyActivated
from shared.contracts.ids import EVERYONE, fresh_id, utc_now
from shared.log.port import Expect, KeyValue, Log, LogUnavailable, StaleBoundary
from shared.policy.activations import BOUNDARY, KEPT, Activations, Followed
from shared.policy.bundle import BadBundle, Bundle, Contents, packed, read_folder, unpacked, version_of
from shared.policy.picks import Picks, contents_of
from shared.policy.reading import NoBundle, stored_bundle

log = structlog.get_logger()


class NoPolicies(LogUnavailable):
    """There is nothing to decide by now; deliveries are tried again."""


class Policies:
    """`gate` is this instance's name. `trouble` says why what the folder holds is not in force, if so."""

    def __init__(
        self, log: Log, store: KeyValue, folder: Path, *, gate: str, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.trouble: str | None = None
        self._log, self._store, self._folder, self._gate, self._clock = log, store, folder, gate, clock
        self.activations = Followed(log)
        self._bundle: Bundle | None = None
        self._loading = asyncio.Lock()
        self.picks = Picks(log)
        self._seen = ""
        self._refused_pick = 0
        self._link: tuple[str, int] | None = None
        """The version the folder had when it was last looked at, and the link."""

    async def begin(self) -> None:
        """Find out what is in force, or put it in force. Raises `BadBundle` when that is nothing, `LogUnavailable`."""
        known = await self.activations.look()
        if known.active and (known.gate != self._gate or known.principal):
            try:
                version = version_of(await asyncio.to_thread(read_folder, self._folder))
            except BadBundle as error:
                self._refuse(str(error), known)
            else:
                if version in known.last:
                    self._seen, self._link = version, _link(self._folder)
                    self._tell_apart(version, known)
        await self.look()
        if not (await self.activations.look()).active:
            raise BadBundle(self.trouble or f"{self._folder} could not be activated")

    async def look(self) -> None:
        """Activate what was picked last, or what the folder holds if it has changed since, if that is good. Raises `LogUnavailable`."""
        await self._look_at_folder(await self.activations.look())
        await self._look_at_pick()

    async def _look_at_pick(self) -> None:
        """The newest pick, unless something was activated after it."""
        await self.picks.look()
        known, pick = await self.activations.look(), self.picks.active
        if pick is None or pick.seq < known.since:
            return
        try:
            contents = await contents_of(self._store, pick.event.which)
            bundle = await asyncio.to_thread(Bundle.of, contents, f"the policies {pick.event.principal} picked")
        except BadBundle as error:
            self.trouble = f"{pick.event.principal} picked {pick.event.which[:64]!r} at {pick.seq}: {error}"
            if pick.seq != self._refused_pick:
                log.error("policies_refused", kept=known.active, why=self.trouble)
            self._refused_pick = pick.seq
            return
        if bundle.version != known.active:
            await self._keep(contents, bundle.version, known)
            known = await self._activate(bundle, known, principal=pick.event.principal)
            self._tell_apart(self._seen, known)

    async def _look_at_folder(self, known: Activations) -> None:
        """What it holds, if it has changed."""
        link = _link(self._folder)
        try:
            contents = await asyncio.to_thread(read_folder, self._folder)
            version = version_of(contents)
            if version == self._seen and link == self._link and known.active:
                self._tell_apart(version, known)
                return
            bundle = await asyncio.to_thread(Bundle.of, contents, str(self._folder))
        except BadBundle as error:
            self._refuse(str(error), known)
            return
        await self._keep(contents, version, known)
        if version != known.active:
            known = await self._activate(bundle, known)
        if known.active == version:
            self._bundle = bundle
        self._seen, self._link = version, link
        self._tell_apart(version, known)

    async def current(self) -> Bundle:
        """What is in force. Raises `NoPolicies`, `LogUnavailable`."""
        await self.activations.look()
        return await self.in_force()

    async def in_force(self) -> Bundle:
        """What was in force at the last look. Raises `NoPolicies`, `LogUnavailable`."""
        known = self.activations.known
        if not known.active:
            raise NoPolicies("no policies are in force yet")
        if self._bundle is None or self._bundle.version != known.active:
            async with self._loading:
                if self._bundle is None or self._bundle.version != known.active:
                    self._bundle = await self._load(known.active)
                    log.info("policies_active", version=known.active, activated_by=known.gate)
        return self._bundle

    async def unready(self) -> str | None:
        """Why nothing can be decided now."""
        try:
            await self.current()
        except LogUnavailable as error:
            return str(error)
        return None

    async def _load(self, version: str) -> Bundle:
        try:
            return await stored_bundle(self._store, version)
        except NoBundle as error:
            raise NoPolicies(str(error)) from error

    async def _keep(self, contents: Contents, version: str, known: Activations) -> None:
        """Store it, unless it is there; the one that was in force longest ago makes room."""
        if await self._is_kept(version):
            return
        if version not in known.last and len(known.last) >= KEPT:
            await self._store.delete(next(iter(known.last)))
        await self._store.put(version, packed(contents))

    async def _is_kept(self, version: str) -> bool:
        entry = await self._store.get(version)
        try:
            return entry is not None and bool(unpacked(entry.value, version))
        except BadBundle:
            return False

    async def _activate(self, bundle: Bundle, known: Activations, principal: str = "") -> Activations:
        """What is in force after it: another, when another gate was faster."""
        event = PolicyActivated(
            swarm=EVERYONE,
            persona=EVERYONE,
            digest=bundle.version,
            revokes=bundle.revokes,
            gate=self._gate,
            principal=principal,
        )
        event_id = fresh_id()
        envelope = enveloped(event_id, source="policy_gate", time=self._clock())
        try:
            await self._log.commit([Message(event=event, envelope=envelope)], [Expect(BOUNDARY, known.position)])
            log.info("policies_activated", version=bundle.version, was=known.active, revokes=bundle.revokes)
        except StaleBoundary:
            log.warning("policies_not_activated", version=bundle.version, why="another gate was faster")
        return await self.activations.look()

    def _refuse(self, why: str, known: Activations) -> None:
        if why != self.trouble:
            log.error("policies_refused", kept=known.active, why=why)
        self.trouble, self._seen = why, ""

    def _tell_apart(self, version: str, known: Activations) -> None:
        """Say so where the folder holds something else than what is in force."""
        if version == known.active or known.principal:  # picked: it is meant to differ
            self.trouble = None
            return
        why = (
            f"{self._folder} holds {version[:12]}, in force is {known.active[:12]}, activated by {known.gate}; "
            "change the folder here, or give it what is in force"
        )
        if why != self.trouble:
            log.warning("policies_differ", why=why)
        self.trouble = why


def _link(folder: Path) -> tuple[str, int] | None:
    """Where the folder leads and since when, if it is a link."""
    try:
        return (os.readlink(folder), folder.lstat().st_mtime_ns) if folder.is_symlink() else None
    except OSError:
        return None
