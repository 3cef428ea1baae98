"""Which policies gates decide by: activated once, stored by digest, the same for all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.policy_gate import policies as module
from services.policy_gate.policies import NoPolicies, Policies
from services.policy_gate.shadow import Shadow
from services.supervisor.policies import point
from shared.contracts.events import PolicyActivated, PolicyPicked
from shared.contracts.ids import EVERYONE
from shared.log.memory import MemoryKeyValue
from shared.policy.bundle import DEFAULT_BUNDLE, BadBundle, Bundle, found
from shared.policy.picks import Picks
from tests.unit.gate.given import Mesh


class Gates(Mesh):
    """A log, a store, and gates with folders of their own."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.store = MemoryKeyValue()

    def gate(self, name: str, *, log: object = None) -> Policies:
        """A process of that gate; its folder is as it was left."""
        folder = self.folder(name)
        if not folder.exists():
            shutil.copytree(DEFAULT_BUNDLE, folder)
        return Policies(log or self.log, self.store, folder, gate=name)  # type: ignore[arg-type]

    def folder(self, name: str) -> Path:
        return self.root / name

    def edit(self, name: str, change: Callable[[str], str], file: str = "gate.cedar") -> str:
        """The version that results, of a good bundle."""
        path = self.folder(name) / file
        path.write_text(change(path.read_text()))
        return Bundle.load(self.folder(name)).version

    @property
    def activations(self) -> list[tuple[str, str]]:
        return [(e.gate, e.digest) for e in self.events(PolicyActivated)]


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


FIRST = Bundle.load(DEFAULT_BUNDLE).version


def more(text: str) -> str:
    return f"{text}\n// reviewed\n"


async def test_the_first_gate_activates_its_folder_once_however_often_it_starts(gates: Gates) -> None:
    for _ in range(3):
        one = gates.gate("one")
        await one.begin()
        await one.look()
        assert (FIRST, None, None) == ((await one.current()).version, one.trouble, await one.unready())
    assert [("one", FIRST)] == gates.activations


async def test_an_edited_folder_is_in_force_at_the_next_look_for_every_gate(gates: Gates) -> None:
    one, two = gates.gate("one"), gates.gate("two")
    await one.begin()
    await two.begin()
    second = gates.edit("one", more)
    await one.look()
    await one.look()
    assert [second] * 2 == [(await gate.current()).version for gate in (one, two)]
    assert [("one", FIRST), ("one", second)] == gates.activations
    await two.look()
    assert two.trouble and second[:12] in two.trouble and await two.unready() is None
    assert second == gates.edit("two", more)
    await two.look()
    assert two.trouble is None and 2 == len(gates.activations)


async def test_a_folder_changed_back_is_a_change(gates: Gates) -> None:
    one = gates.gate("one")
    await one.begin()
    second = gates.edit("one", more)
    await one.look()
    gates.edit("one", lambda text: text.removesuffix("\n// reviewed\n"))
    again = gates.gate("one")  # while no gate ran
    await again.begin()
    assert [FIRST, second, FIRST] == [version for _, version in gates.activations]


async def test_a_gate_that_starts_with_an_old_folder_follows_what_others_activated(gates: Gates) -> None:
    one, two = gates.gate("one"), gates.gate("two")
    await one.begin()
    second = gates.edit("one", more)
    await one.look()
    await two.begin()
    assert second == (await two.current()).version and two.trouble
    gates.edit("two", more)
    third = gates.edit("two", more)
    await two.look()
    assert third == (await one.current()).version
    fresh = gates.gate("one")
    await fresh.begin()
    assert third == (await fresh.current()).version and fresh.trouble
    assert [FIRST, second, third] == [version for _, version in gates.activations]


async def test_a_bad_folder_changes_nothing_but_what_is_said(gates: Gates) -> None:
    one = gates.gate("one")
    await one.begin()
    path = gates.folder("one") / "gate.cedar"
    good = path.read_text()
    for bad in ('@id("x") permit', good.replace("resource.own && ", ""), ""):
        path.write_text(bad)
        await one.look()
        assert one.trouble and (FIRST, None) == ((await one.current()).version, await one.unready())
        restarted = gates.gate("one")
        await restarted.begin()
        assert restarted.trouble and FIRST == (await restarted.current()).version
    path.write_text(good)
    await one.look()
    assert one.trouble is None and 1 == len(gates.activations)


async def test_without_any_good_policies_there_is_no_gate(gates: Gates) -> None:
    one = gates.gate("one")
    (gates.folder("one") / "golden.json").write_text("[]")
    with pytest.raises(BadBundle, match="no golden decisions"):
        await one.begin()
    with pytest.raises(NoPolicies):
        await one.current()
    assert "no policies are in force" in (await one.unready() or "")


async def test_what_is_in_force_and_not_in_the_store_is_not_decided_by_anything_else(gates: Gates) -> None:
    one, two = gates.gate("one"), gates.gate("two")
    await one.begin()
    second = gates.edit("one", more)
    await one.look()
    await two.begin()
    for stored in (None, b"something else"):
        await gates.store.delete(second)
        if stored is not None:
            await gates.store.put(second, stored)
        with pytest.raises(NoPolicies):
            await two.current()
        assert second[:12] in (await two.unready() or "")
    again = gates.gate("one")
    await again.begin()
    assert second == (await two.current()).version and await two.unready() is None


async def test_two_gates_that_find_two_changes_at_once_agree_on_one(gates: Gates) -> None:
    one, two = gates.gate("one"), gates.gate("two")
    await one.begin()
    await two.begin()
    first = gates.edit("one", more)
    gates.edit("two", lambda text: f"{text}\n// mine\n")

    class Faster:
        """A log on which gate one activates right before gate two does."""

        def __getattr__(self, name: str) -> object:
            return getattr(gates.log, name)

        async def commit(self, *arguments: object) -> object:
            await one.look()
            return await gates.log.commit(*arguments)  # type: ignore[arg-type]

    slow = gates.gate("two", log=Faster())
    await slow.begin()
    assert first == (await slow.current()).version == (await one.current()).version
    assert slow.trouble and ("one", first) == gates.activations[-1]


async def test_the_store_keeps_so_many_bundles(gates: Gates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    monkeypatch.setattr("shared.policy.activations.KEPT", 2)
    one = gates.gate("one")
    await one.begin()
    versions = [FIRST]
    for _ in range(3):
        versions.append(gates.edit("one", more))
        await one.look()
    assert set(versions[-2:]) == {entry.key for entry in await gates.store.entries()}


async def test_a_bundle_says_whether_it_revokes(gates: Gates) -> None:
    one = gates.gate("one")
    await one.begin()
    (gates.folder("one") / "bundle.json").write_text('{"revoke": true}')
    await one.look()
    assert [False, True] == [e.revokes for e in gates.events(PolicyActivated)]


def picked(which: str, mode: Any = "active") -> PolicyPicked:
    return PolicyPicked(swarm=EVERYONE, persona=EVERYONE, mode=mode, which=which, principal="ann")


OPERATOR = Bundle.load(found("operator")).version


async def test_what_was_picked_last_is_in_force_for_all_gates_also_after_a_restart_until_a_folder_changes(
    gates: Gates,
) -> None:
    one, two = gates.gate("one"), gates.gate("two")
    await one.begin()
    await two.begin()
    await gates.say(picked("operator"), "k1")
    for gate in (one, two, one):
        await gate.look()
    for gate in (one, two, gates.gate("one"), gates.gate("two")):
        await gate.begin()
        assert (OPERATOR, None) == ((await gate.current()).version, gate.trouble)
    assert [("one", FIRST), ("one", OPERATOR)] == gates.activations and "ann" == gates.events(PolicyActivated)[
        1
    ].principal
    second = gates.edit("two", more)
    await two.look()
    await one.look()
    assert second == (await one.current()).version, "somebody changed a folder after it"
    await gates.say(picked(FIRST), "k2")
    await one.look()
    assert FIRST == (await two.current()).version, "a version that was in force before"


@pytest.mark.parametrize("which", ["nobody", "f" * 64, "../x", "*", ""])
async def test_a_pick_that_is_no_policy_is_told_once_and_changes_nothing(gates: Gates, which: str) -> None:
    one = gates.gate("one")
    await one.begin()
    await gates.say(picked(which), "k1")
    for _ in range(2):
        await one.look()
        assert one.trouble and "ann picked" in one.trouble and FIRST == (await one.current()).version
    await gates.say(picked("operator"), "k2")
    await one.look()
    assert (OPERATOR, None) == ((await one.current()).version, one.trouble)


async def test_a_link_that_is_set_anew_goes_before_an_earlier_pick_even_to_where_it_led(gates: Gates) -> None:
    link = gates.folder("linked")
    point(link, DEFAULT_BUNDLE)
    one = gates.gate("linked")
    await one.begin()
    await gates.say(picked("operator"), "k1")
    await one.look()
    assert OPERATOR == (await one.current()).version
    point(link, DEFAULT_BUNDLE)
    await one.look()
    assert (FIRST, None) == ((await one.current()).version, one.trouble)


async def test_a_shadow_that_was_picked_goes_before_the_folders_until_it_is_ended(gates: Gates) -> None:
    picks = Picks(gates.log)
    shadow = Shadow(found("developer"), picks, gates.store)
    developer = Bundle.load(found("developer")).version
    for which, version in ((None, developer), ("operator", OPERATOR), ("nobody", None), ("", developer)):
        if which is not None:
            await gates.say(picked(which, "shadow"), f"k-{which}")
        await shadow.look()
        assert (version, version is None) == (shadow.bundle and shadow.bundle.version, bool(shadow.trouble))
