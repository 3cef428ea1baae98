"""What `swarm up` shows of its processes' lines: what concerns a person; all of it is in their logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.commands.running.up import concerns, nats_context, prefixed

WORKER = "W1128 01:38:07.247713 worker.go:180 Plugin worker w-1 stream ended: connection refused"


@pytest.mark.parametrize(
    ("name", "line", "shown"),
    [
        ("s3", WORKER, False),
        ("s3", "E1128 01:38:30.089191 worker.go:514 Error disconnecting from admin server", False),
        ("s3", "  Filer        stopped   1.0s", False),
        ("s3", "F1128 01:38:07.247713 volume.go:20 cannot bind: address already in use", True),
        ("s3", "panic: runtime error: index out of range", True),
        ("s3", "supervisor: s3 ended (signal SIGKILL), starts again in 0.1 s", True),
        ("nats", "[12] 2026/11/28 01:38:07.247713 [INF] Server is ready", False),
        ("nats", "[12] 2026/11/28 01:38:07.247713 [WRN] JetStream resource limits exceeded", True),
        ("nats-2", "[12] 2026/11/28 01:38:07.247713 [INF] Server is ready", False),
        ("nats", "supervisor: nats says that it cannot work", True),
        ("memory_compactor-1", '{"event": "waiting", "level": "warning"}', True),
        ("supervisor", "waits for nats, which does not answer", True),
    ],
)
def test_a_line_is_shown_when_somebody_should_act_or_know(name: str, line: str, shown: bool) -> None:
    assert shown == concerns(name, line)


def test_the_object_stores_own_warnings_are_not_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    sink = prefixed()
    sink("s3", WORKER)
    sink("s3", "supervisor: s3 ended (exit code 1), starts again in 0.1 s")
    assert capsys.readouterr().err.splitlines() == [
        "s3                | supervisor: s3 ended (exit code 1), starts again in 0.1 s"
    ]


def test_the_page_of_the_nats_cli_begins_with_the_line_that_is_printed() -> None:
    page = Path(__file__).parents[3] / "docs" / "nats-cli.md"
    first = page.read_text().partition("```sh\n")[2].partition("\n")[0]
    assert first == nats_context("nats://127.0.0.1:4222", Path("data/keys/operator/operator.nk"))
