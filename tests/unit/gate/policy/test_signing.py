"""A gate signs with the newest key that is good by the log of which it has the seed, and otherwise with none."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.policy_gate.signing import NoKey, Signing, seeds_of
from shared.contracts.events import Signer
from shared.crypto import new_seed, public_key, verify_verdict
from shared.log.memory import MemoryLog
from shared.settings import SettingsError, Verdict
from shared.signers import Followed, announce
from tests.unit.gate.given import KEY, ROOT, SEED, T0, appointed, at, authorized, proposed

NEW_SEED = new_seed()
NEW = public_key(NEW_SEED)
DRAFT = authorized(proposed(), key="", signature="")


class Gate:
    """One gate whose seeds are in a file, and the log it goes by."""

    def __init__(self, tmp_path: Path, *seeds: str) -> None:
        self.now, self.file = T0, tmp_path / "verdict-seed"
        self.log = MemoryLog(clock=lambda: self.now)
        self.holds(*seeds)
        self.followed = Followed(self.log, (ROOT,))
        found = Signing.of(Verdict(seed_file=str(self.file)), self.followed)
        self.signing = Signing(self.followed, found._seeds, self.file, lambda: self.now)

    def holds(self, *seeds: str) -> None:
        self.file.write_text("".join(f"{seed}\n" for seed in seeds))

    async def signer(self) -> str:
        """Who signs now; the verdict is good by the log."""
        await self.followed.look()
        verdict = await self.signing.sign(DRAFT)
        assert verify_verdict(verdict, self.followed.known.now, self.now)
        return verdict.key


async def test_before_the_log_says_whose_verdicts_are_good_none_is_signed(tmp_path: Path) -> None:
    gate = Gate(tmp_path, SEED)
    with pytest.raises(NoKey, match="run the bootstrap"):
        await gate.signing.sign(DRAFT)
    assert "run the bootstrap" in (await gate.signing.unready() or "")
    await announce(gate.log, appointed(KEY))
    assert KEY == await gate.signer() and await gate.signing.unready() is None


async def test_a_new_seed_is_used_from_its_word_in_the_log_on_and_not_before(tmp_path: Path) -> None:
    gate = Gate(tmp_path, SEED, NEW_SEED)
    await announce(gate.log, appointed(KEY))
    assert KEY == await gate.signer()
    await announce(gate.log, appointed(Signer(key=KEY, until=at(3600)), NEW, number=2))
    assert NEW == await gate.signer()


async def test_a_seed_that_comes_later_is_found_without_a_restart_and_until_then_the_old_one_signs(
    tmp_path: Path,
) -> None:
    gate = Gate(tmp_path, SEED)
    await announce(gate.log, appointed(KEY))
    await announce(gate.log, appointed(Signer(key=KEY, until=at(3600)), NEW, number=2))
    assert KEY == await gate.signer()
    gate.holds(SEED, "SU-half-written")
    assert KEY == await gate.signer()
    gate.file.unlink()
    assert KEY == await gate.signer()
    gate.holds(SEED, NEW_SEED)
    assert NEW == await gate.signer()


async def test_a_key_whose_time_ends_or_that_was_taken_away_signs_nothing(tmp_path: Path) -> None:
    gate = Gate(tmp_path, SEED)
    await announce(gate.log, appointed(Signer(key=KEY, until=at(60)), NEW))
    gate.now = at(49)
    assert KEY == await gate.signer()
    gate.now = at(51)
    with pytest.raises(NoKey, match=f"{NEW}, number 1. this gate has no seed"):
        await gate.signing.sign(DRAFT)
    await announce(gate.log, appointed(NEW, number=2))
    gate.now = at(0)
    assert "number 2" in (await gate.signing.unready() or "")
    await announce(gate.log, appointed(number=3))
    assert "(none, number 3)" in (await gate.signing.unready() or "")


def test_what_is_no_seed_is_said_and_not_repeated(tmp_path: Path) -> None:
    followed = Followed(MemoryLog(), (ROOT,))
    with pytest.raises(SettingsError, match="not an nkey seed") as caught:
        seeds_of(f"{SEED}\nSUNONSENSE")
    assert "SUNONSENSE" not in str(caught.value)
    for settings in (Verdict(seed_file=str(tmp_path / "none")), Verdict(seed="nonsense")):
        with pytest.raises(SettingsError):
            Signing.of(settings, followed)
    (tmp_path / "empty").write_text("")
    with pytest.raises(SettingsError, match="no seed in it"):
        Signing.of(Verdict(seed_file=str(tmp_path / "empty")), followed)
    assert SEED not in repr(Signing.of(Verdict(seed=SEED), followed))
