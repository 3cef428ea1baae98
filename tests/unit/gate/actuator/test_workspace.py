"""Files are written whole or not at all, inside or not at all; and after a crash anywhere, the answer is true and stays true."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.actuator.hands import receipts
from services.actuator.hands import workspace as module
from services.actuator.hands.receipts import IDENTITY, RECEIPTS
from services.actuator.hands.workspace import Workspace
from services.actuator.terms import Outcome
from shared.contracts.kinds.files import FileDelete, FilePatch, FileWrite
from shared.outside import filing

KEY, CLAIM, TARGET = "alpha.p01.p-1", "claim-1", "findings/deep/report.md"
NEW = FileWrite(content="new\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def workspace(root: Path) -> Iterator[Workspace]:
    workspace = Workspace(root)
    yield workspace
    workspace.close()


def write(workspace: Workspace, target: str = TARGET, params: Any = NEW, **changed: Any) -> Outcome:
    do = {FileWrite: workspace.write, FilePatch: workspace.patch, FileDelete: workspace.delete}[type(params)]
    return do(target, params, **{"key": KEY, "claim": CLAIM, "hindered": lambda: None, **changed})  # type: ignore[operator]


def inquire(workspace: Workspace, target: str = TARGET, params: Any = NEW, **changed: Any) -> Outcome:
    ask = {FileWrite: workspace.inquire, FilePatch: workspace.inquire_patch, FileDelete: workspace.inquire_delete}
    return ask[type(params)](target, params, **{"key": KEY, "claim": CLAIM, **changed})  # type: ignore[operator]


def pretend(monkeypatch: pytest.MonkeyPatch, double: object) -> None:
    """Everything the workspace asks of the operating system goes through `double`."""
    for each in (module, receipts, filing):
        monkeypatch.setattr(each, "os", double)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def files(root: Path) -> list[str]:
    """Everything but receipts."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and RECEIPTS not in p.parts)


def test_a_file_is_written_with_a_receipt_of_what_is_there(workspace: Workspace, root: Path) -> None:
    outcome = write(workspace)
    assert "success" == outcome.outcome and outcome.receipt is not None and 4 == outcome.receipt.size_bytes
    assert [TARGET] == files(root) and "new\n" == (root / TARGET).read_text()
    assert "executing claim-1" == (root / RECEIPTS / KEY).read_text()


def test_an_existing_file_is_replaced_or_with_create_refused(workspace: Workspace, root: Path) -> None:
    write(workspace, params=FileWrite(content="old\n"), key="a.b.c")
    refused = write(workspace, params=FileWrite(content="new\n", mode="create"), key="a.b.d")
    assert ("failure", "target_exists") == (refused.outcome, refused.error) and "old\n" == (root / TARGET).read_text()
    assert "success" == write(workspace).outcome and "new\n" == (root / TARGET).read_text()
    assert [TARGET] == files(root)


def test_the_same_claim_never_writes_twice(workspace: Workspace, root: Path) -> None:
    write(workspace)
    (root / TARGET).write_text("edited by a person\n")
    assert "fenced" == write(workspace).error
    assert "edited by a person\n" == (root / TARGET).read_text()


def test_what_is_hindered_at_the_last_moment_does_not_begin(workspace: Workspace, root: Path) -> None:
    late = Outcome(outcome="failure", summary="too late", error="too_late")
    assert late == write(workspace, hindered=lambda: late)
    assert [] == files(root)
    assert "success" == write(workspace).outcome, "and it left no receipt"


def test_a_workspace_keeps_its_identity_and_two_have_two(root: Path, tmp_path: Path) -> None:
    names = []
    for folder in (root, root, tmp_path / "other"):
        workspace = Workspace(folder)
        names.append(workspace.receipts.identity)
        workspace.close()
    assert names[0] == names[1] != names[2]


# -- no way out ------------------------------------------------------------------------------------------------------

OUTSIDE = [
    "../out.md",
    "findings/../../out.md",
    "/etc/out.md",
    "a/\x00b",
    ".receipts/x",
    "a//b",
    "x" * 300,
    "a\\..\\b",
    "",
    ".",
]


@pytest.mark.parametrize("target", OUTSIDE)
def test_a_path_that_leads_out_is_refused_and_provably_never_written(
    workspace: Workspace, root: Path, target: str
) -> None:
    before = sorted(root.parent.rglob("*"))
    assert ("failure", "path_escape") == (write(workspace, target).outcome, write(workspace, target).error)
    assert "failure" == inquire(workspace, target).outcome
    assert before == sorted(root.parent.rglob("*"))


def test_a_symbolic_link_on_the_way_is_not_followed(workspace: Workspace, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "findings").symlink_to(outside)
    assert "path_escape" == write(workspace, "findings/a.md").error
    assert [] == list(outside.iterdir())


def test_a_symbolic_link_as_the_target_is_replaced_not_followed(
    workspace: Workspace, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("keep")
    (root / "a.md").symlink_to(secret)
    assert "success" == write(workspace, "a.md").outcome
    assert "keep" == secret.read_text() and not (root / "a.md").is_symlink()


def test_a_folder_swapped_for_a_link_under_way_leads_nowhere_outside(
    workspace: Workspace, root: Path, tmp_path: Path
) -> None:
    """The race: the folder is opened, then moved away and a link put in its place, then the file is put in place."""
    outside = tmp_path / "outside"
    outside.mkdir()

    def swap() -> None:
        (root / "findings").rename(root / "moved")
        (root / "findings").symlink_to(outside)

    assert "success" == write(workspace, "findings/a.md", hindered=swap).outcome
    assert [] == list(outside.iterdir()) and (root / "moved" / "a.md").exists()


def test_receipts_that_are_a_link_elsewhere_are_refused(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (root / RECEIPTS).symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        Workspace(root)


def test_a_target_that_is_a_folder_or_lies_below_a_file_is_a_failure(workspace: Workspace, root: Path) -> None:
    (root / "folder").mkdir()
    (root / "file").write_text("")
    assert "io_error" == write(workspace, "folder").error
    assert "path_escape" == write(workspace, "file/below", key="a.b.c").error
    assert ["file"] == files(root)


def test_names_in_any_script_are_fine(workspace: Workspace, root: Path) -> None:
    assert "success" == write(workspace, "Ärger/日本.md").outcome
    assert ["Ärger/日本.md"] == files(root)


# -- crashes ---------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here."""


class Steps:
    """`os`, but before its n-th change of the disk something happens; after a crash nothing changes the disk any more."""

    CHANGES = ("open", "mkdir", "write", "fsync", "link", "unlink", "replace")

    def __init__(self, at: int, happens: Callable[[], object]) -> None:
        self.at, self.happens = at, happens
        self.count, self.dead = 0, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._wrapped(real) if name in self.CHANGES else real

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Crash
            self.count += 1
            if self.count == self.at:
                try:
                    self.happens()
                except Crash:
                    self.dead = True
                    raise
            return real(*args, **kwargs)

        return step


def die() -> None:
    raise Crash


def every_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: Any, before: str | None
) -> Iterator[tuple[Any, ...]]:
    """A fresh workspace per step; how many steps there are is found by counting."""
    at, last = 1, 10**9
    while at <= last:
        root = tmp_path / str(at)
        workspace = Workspace(root)
        if before is not None:
            for target in (TARGET, "count/deep/it.md"):
                (root / target).parent.mkdir(parents=True)
                (root / target).write_text(before)
        if last == 10**9:
            counter = Steps(0, die)
            pretend(monkeypatch, counter)
            write(workspace, "count/deep/it.md", params, key="x.y.z", claim="other")
            monkeypatch.undo()
            last = counter.count
        shutil.rmtree(root / "count", ignore_errors=True)
        yield root, workspace, at
        workspace.close()
        at += 1
    assert last > 9


PATCH = FilePatch(base=sha256("old\n"), find="old", replace="new")
CASES = [
    pytest.param(NEW, None, "new\n", id="write"),
    pytest.param(NEW, "old\n", "new\n", id="replace"),
    pytest.param(FileWrite(content="new\n", mode="create"), None, "new\n", id="create"),
    pytest.param(PATCH, "old\n", "new\n", id="patch"),
    pytest.param(FileDelete(base=sha256("old\n")), "old\n", None, id="delete"),
]


def there(root: Path) -> str | None:
    return (root / TARGET).read_text() if (root / TARGET).exists() else None


@pytest.mark.parametrize(("params", "before", "after"), CASES)
def test_after_a_crash_before_any_step_the_inquiry_tells_the_truth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: Any, before: str | None, after: str | None
) -> None:
    seen = set()
    for root, workspace, at in every_step(monkeypatch, tmp_path, params, before):
        pretend(monkeypatch, Steps(at, die))
        with suppress(Crash):
            write(workspace, params=params)
        monkeypatch.undo()
        outcome = inquire(workspace, params=params)
        assert outcome.outcome in ("success", "failure"), (at, outcome)
        assert (after if outcome.outcome == "success" else before) == there(root), (at, outcome)
        assert ([TARGET] if there(root) is not None else []) == files(root), "nothing temporary is left"
        assert outcome.outcome == inquire(workspace, params=params).outcome, "asked again, the same answer"
        kept = root / RECEIPTS / f"{KEY}.before"
        assert outcome.outcome == "failure" or before is None or kept.read_text() == before
        seen.add(outcome.outcome)
    assert {"success", "failure"} == seen


@pytest.mark.parametrize(("params", "before", "after"), CASES)
def test_an_inquiry_between_any_two_steps_of_a_slow_writer_stays_true(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: Any, before: str | None, after: str | None
) -> None:
    answers: list[Outcome] = []
    seen = set()
    for root, workspace, at in every_step(monkeypatch, tmp_path, params, before):
        other = Workspace(root)

        def ask(other: Workspace = other) -> None:
            answers.append(inquire(other, params=params))

        pretend(monkeypatch, Steps(at, ask))
        writer = write(workspace, params=params)
        monkeypatch.undo()
        other.close()
        if answers:
            said = answers.pop().outcome
            seen.add(said)
            assert "unknown" != said
            assert (after if said == "success" else before) == there(root), (at, said, writer)
            assert (said == "success") == (writer.outcome == "success"), (at, said, writer)
    assert {"success", "failure"} <= seen


def test_kill_9_between_receipt_and_rename_is_found_out_and_undone(workspace: Workspace, root: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from services.actuator.hands import workspace as module
from services.actuator.hands.workspace import Workspace
from shared.contracts.kinds.files import FileWrite
os.replace = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
Workspace(Path({str(root)!r})).write({TARGET!r}, FileWrite(content="new\\n"), key={KEY!r}, claim={CLAIM!r}, hindered=lambda: None)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(module.__file__).parents[2], timeout=60)
    assert -signal.SIGKILL == killed.returncode and 1 == len(files(root))
    found = inquire(workspace)
    assert ("failure", "not_executed") == (found.outcome, found.error)
    assert [] == files(root)


class Synced:
    """`os`, and the folders and files that were synced, by path."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        self.paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        os.fsync(descriptor)


def test_what_a_dead_writer_left_unsynced_is_synced_before_it_counts(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace, root: Path
) -> None:
    write(workspace)
    synced = Synced()
    pretend(monkeypatch, synced)
    assert "success" == inquire(workspace).outcome
    assert str((root / TARGET).parent) in synced.paths
    assert "success" == write(workspace, "findings/deep/other.md", key="a.b.c").outcome
    assert {str(root), str(root / "findings"), str(root / "findings/deep")} <= set(synced.paths)


def test_what_was_changed_since_by_another_is_unknown(workspace: Workspace, root: Path) -> None:
    write(workspace)
    assert "success" == inquire(workspace).outcome
    (root / TARGET).write_text("edited by a person\n")
    assert "unknown" == inquire(workspace).outcome


def test_a_receipt_of_another_claim_is_unknown(workspace: Workspace) -> None:
    write(workspace)
    assert "unknown" == inquire(workspace, claim="claim-2").outcome


def test_old_receipts_go_but_never_the_identity(workspace: Workspace, root: Path) -> None:
    write(workspace)
    assert 0 == workspace.receipts.prune()
    for name in (KEY, IDENTITY):
        assert (root / RECEIPTS / name).exists()
    assert 1 == workspace.receipts.prune(-1.0)
    assert [IDENTITY] == [p.name for p in (root / RECEIPTS).iterdir()]


def test_a_patch_fits_what_it_was_made_for_or_is_refused(workspace: Workspace, root: Path) -> None:
    (root / TARGET).parent.mkdir(parents=True)
    for text, params, error in [
        ("old\n", PATCH, None),
        ("older\n", PATCH, "changed_since"),
        ("a a", FilePatch(base=sha256("a a"), find="a", replace="b"), "bad_params"),
        ("a b", FilePatch(base=sha256("a b"), find="c", replace="b"), "bad_params"),
        ("[a", FilePatch(base=sha256("[a"), find="a", replace="b](http://x.example)"), "bad_params"),
    ]:
        (root / TARGET).write_text(text)
        outcome = write(workspace, params=params, key=f"k.{sha256(text + str(params))[:8]}")
        assert error == outcome.error, outcome
        assert ("new\n" if error is None else text) == (root / TARGET).read_text()
    assert "io_error" == write(workspace, "findings/none.md", PATCH, key="a.b.c").error


def test_what_is_deleted_can_be_brought_back_by_hand_and_another_files_is_not_deleted(
    workspace: Workspace, root: Path
) -> None:
    write(workspace, params=FileWrite(content="old\n"), key="a.b.c")
    changed = write(workspace, params=FileDelete(base=sha256("other\n")), key="a.b.d")
    assert "changed_since" == changed.error and "old\n" == (root / TARGET).read_text()
    done = write(workspace, params=FileDelete(base=sha256("old\n")))
    assert "success" == done.outcome and not (root / TARGET).exists()
    assert f"{RECEIPTS}/{KEY}.before" in done.summary and "old\n" == (root / RECEIPTS / f"{KEY}.before").read_text()
    assert 0 == workspace.receipts.prune(), "it was written long before, and kept now"


def test_what_an_old_file_was_is_kept_as_long_as_any(workspace: Workspace, root: Path) -> None:
    write(workspace, params=FileWrite(content="old\n"), key="a.b.c")
    os.utime(root / TARGET, (0, 0))
    write(workspace)
    assert 0 == workspace.receipts.prune() and "old\n" == (root / RECEIPTS / f"{KEY}.before").read_text()
