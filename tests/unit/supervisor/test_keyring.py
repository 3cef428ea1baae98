"""Who holds which secret; what a crash between any two files leaves; how keys follow one another."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.supervisor.secrets import keyring
from services.supervisor.secrets.keyring import KeysError
from services.supervisor.secrets.keys import ensure_keys, private_folder, seed_file, write_private
from shared.broker import ROLES, BrokerConfig
from shared.contracts.events import Signer, SignersChanged
from shared.contracts.services import SERVICES
from shared.crypto import is_good, new_seed, public_key, verify_signers

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = (*ROLES, "verifier-1", "verifier-2", "policy_gate-1", "persona_runner-1")


def configure(root: Path) -> None:
    """As `swarm up` does."""
    keyring.configure(root, BrokerConfig(keys=keyring.make(root, NAMES), store_dir="/data"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    configure(tmp_path)
    return tmp_path


def public(root: Path, name: str) -> str:
    return public_key(seed_file(root, name).read_text())


def files(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): file.read_text() for file in root.rglob("*") if file.is_file()}


def test_who_is_told_a_secret_holds_a_copy_and_nobody_else_does(root: Path) -> None:
    made = files(root)
    for name, (_, setting, beside) in keyring.SHARED.items():
        told = {row.name for row in SERVICES.values() if setting in row.holds} | set(beside)
        assert told == {path.partition("/")[0] for path in made if path.endswith(f"/{name}")}
        assert len({made[f"{holder}/{name}"] for holder in told}) == 1
    assert [] == [path for path in made if path.startswith("persona_runner/") and "persona_runner-" not in path]
    assert all(file.stat().st_mode & 0o077 == 0 for file in root.rglob("*"))


def seeds(root: Path) -> list[str]:
    """Public keys of what the gates may sign with, the newest last."""
    return [public_key(seed) for seed in (root / "policy_gate" / "verdict-seed").read_text().split()]


def word(root: Path) -> SignersChanged:
    """What the bootstrap is to say, which is of the root that verifiers were told."""
    said = keyring.signers(root)
    roots = {(root / service / "verdict-root").read_text() for service in keyring.ROOTED}
    assert len(roots) == 1 and verify_signers(said, roots)
    return said


def test_the_gates_sign_with_a_key_that_logs_nobody_in_and_whose_that_is_says_one_that_nobody_holds_who_runs(
    root: Path,
) -> None:
    (signer,) = seeds(root)
    said = word(root)
    assert (1, (Signer(key=signer),)) == (said.number, said.signers)
    assert {"policy_gate", "actuator", "gateway"} == set(keyring.ROOTED)
    assert signer not in files(root)["nats/nats.conf"] and said.root not in files(root)["nats/nats.conf"]
    made = files(root)
    assert ["verdict/root-seed"] == [path for path, text in made.items() if made["verdict/root-seed"].strip() in text]


def test_the_brokers_folder_has_public_keys_only(root: Path) -> None:
    seeds = [seed_file(root, name).read_text() for name in NAMES]
    told = "".join(file.read_text() for file in (root / "nats").iterdir())
    assert [] == [seed for seed in seeds if seed in told]
    assert all(public(root, name) in told for name in NAMES)


def test_made_again_nothing_changes(root: Path) -> None:
    before = files(root)
    configure(root)
    assert before == files(root)


def test_keys_that_lay_in_one_folder_are_moved_to_their_holders(tmp_path: Path) -> None:
    seed = new_seed()
    write_private(tmp_path / "verifier-1.nk", seed)
    write_private(tmp_path / "core-secret", "c0re")
    keyring.make(tmp_path, ["verifier-1"])
    assert seed_file(tmp_path, "verifier-1").read_text() == seed
    assert {(tmp_path / holder / "core-secret").read_text() for holder in keyring.holders_of("core-secret")} == {"c0re"}
    assert [] == [file for file in tmp_path.iterdir() if file.is_file()]


def test_one_more_instance_is_known_to_the_broker_and_all_others_as_before(root: Path) -> None:
    before = keyring.configured(root).keys
    config = keyring.add(root, "persona_runner-2")
    assert public(root, "persona_runner-2") in config.read_text()
    assert before == {name: key for name, key in keyring.configured(root).keys.items() if name != "persona_runner-2"}
    with pytest.raises(ValueError, match="'runner' is no service instance"):
        keyring.add(root, "runner")


def test_a_rotated_users_old_key_is_let_in_until_the_end(root: Path) -> None:
    old = public(root, "verifier-1")
    config = keyring.rotate(root, "verifier-1")
    new = public(root, "verifier-1")
    assert old != new and {old, new} <= set(config.read_text().replace(",", " ").split())
    with pytest.raises(KeysError, match="--end"):
        keyring.rotate(root, "verifier-1")
    configure(root)
    assert old in config.read_text(), "whoever writes it anew keeps it"
    keyring.end(root, "verifier-1")
    assert old not in config.read_text() and new in config.read_text()
    with pytest.raises(KeysError, match="not being rotated"):
        keyring.end(root, "verifier-1")


@pytest.mark.parametrize("written", range(5))
@pytest.mark.parametrize("name", ["verifier-1", "bootstrap"])
def test_a_rotation_that_died_anywhere_locks_nobody_out_and_can_be_gone_on_with(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: int, name: str
) -> None:
    old, left = public(root, name), written

    def dies(file: Path, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write_private(file, text)

    monkeypatch.setattr(keyring, "write_private", dies)
    with contextlib.suppress(KeyboardInterrupt):
        keyring.rotate(root, name)
    monkeypatch.undo()
    configure(root)
    told = (root / "nats" / "nats.conf").read_text()
    assert public(root, name) in told, "who starts now is let in"
    assert old in told, "and so is who runs"
    with contextlib.suppress(KeysError):
        keyring.rotate(root, name)
    assert public(root, name) != old
    assert (root / "nats" / "nats.conf").read_text().count("nkey: " + old) == 1


def test_a_broker_of_before_is_not_told_to_let_in_one_key_twice(root: Path) -> None:
    told = (root / "nats" / "nats.conf").read_text()
    assert all(told.count(f"nkey: {public(root, name)}") == 1 for name in NAMES)


def test_verdicts_of_the_old_key_are_good_for_a_while_and_gates_have_both_seeds(root: Path) -> None:
    (old,) = seeds(root)
    assert keyring.rotate_verdict(root, NOW, HOUR) == word(root)
    _, new = seeds(root)
    assert (old, new) == tuple(seeds(root))
    assert (2, (Signer(key=old, until=NOW + HOUR), Signer(key=new))) == (word(root).number, word(root).signers)
    keyring.rotate_verdict(root, NOW + HOUR / 2, 2 * HOUR)
    third = seeds(root)[-1]
    ends = (NOW + HOUR, NOW + HOUR / 2 + 2 * HOUR, None)
    assert [*zip((old, new, third), ends, strict=True)] == [(s.key, s.until) for s in word(root).signers]
    keyring.rotate_verdict(root, NOW + 2 * HOUR, HOUR)
    assert [new, third] == seeds(root)[:2] and old not in {s.key for s in word(root).signers}


def test_a_stolen_key_is_good_no_more(root: Path) -> None:
    keyring.rotate_verdict(root, NOW, timedelta(0))
    (new,) = seeds(root)
    assert (2, (Signer(key=new),)) == (word(root).number, word(root).signers)


def test_so_many_keys_are_not_good_at_once(root: Path) -> None:
    for _ in range(keyring.MOST_SIGNERS - 1):
        keyring.rotate_verdict(root, NOW, HOUR)
    with pytest.raises(KeysError, match="16 keys are still good"):
        keyring.rotate_verdict(root, NOW, HOUR)
    assert keyring.MOST_SIGNERS == len(word(root).signers) == len(seeds(root))


@pytest.mark.parametrize("written", range(2))
def test_gates_have_a_seed_of_a_good_key_wherever_a_rotation_dies(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    left = written

    def dies(file: Path, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write_private(file, text)

    monkeypatch.setattr(keyring, "write_private", dies)
    with pytest.raises(KeyboardInterrupt):
        keyring.rotate_verdict(root, NOW, HOUR)
    monkeypatch.undo()

    def held(at: datetime) -> bool:
        return any(signer.key in seeds(root) and is_good(signer, at) for signer in word(root).signers)

    configure(root)
    assert held(NOW)
    keyring.rotate_verdict(root, NOW, HOUR)
    assert held(NOW + 10 * HOUR)
    assert 2 == len(word(root).signers) == len(seeds(root))


def test_keys_of_a_release_that_told_verifiers_by_a_file_go_on(tmp_path: Path) -> None:
    old, newer = new_seed(), new_seed()
    for folder in ("policy_gate", "actuator"):
        private_folder(tmp_path / folder)
    write_private(tmp_path / "policy_gate" / "verdict-seed", newer)
    told = f"{public_key(old)} ..{(NOW + HOUR).isoformat()}\n{public_key(newer)} {NOW.isoformat()}..\n"
    write_private(tmp_path / "actuator" / "verdict-keys", told)
    configure(tmp_path)
    assert word(tmp_path).signers == (Signer(key=public_key(old), until=NOW + HOUR), Signer(key=public_key(newer)))
    assert not (tmp_path / "actuator" / "verdict-keys").exists()


def test_a_new_root_says_the_same_of_the_same_keys(root: Path) -> None:
    before = word(root)
    (root / "verdict" / "root-seed").unlink()
    configure(root)
    after = word(root)
    assert before.root != after.root and (before.number, before.signers) == (after.number, after.signers)


def test_a_new_core_secret_is_everybodys(root: Path) -> None:
    before = (root / "governor" / "core-secret").read_text()
    keyring.rotate_core(root)
    (after,) = {(root / holder / "core-secret").read_text() for holder in keyring.holders_of("core-secret")}
    assert before != after


def test_without_keys_it_is_said_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="swarm keys init"):
        keyring.add(tmp_path, "verifier-1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    (tmp_path / "verifier").mkdir(mode=0o755)
    ensure_keys(tmp_path, ["verifier-1"])
    private_folder(tmp_path / "verifier")
    assert (tmp_path / "verifier").stat().st_mode & 0o077 == 0
