"""What `swarm doctor` makes of what services say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime

from services.cli.commands.looking.doctor import Check, Readiness, readiness, refusals
from services.cli.commands.looking.quotas import Told

HELD = "the log has 88 MiB of 100 MiB"


def test_a_service_is_told_with_the_cause_it_names_and_what_it_warns_of() -> None:
    said = {
        "verifier-1": Readiness(ready=True, warnings={"dead_letters": "2 events are buried"}),
        "gateway-1": Readiness(ready=False, problems={"clock": "an hour ahead", "store": "no space"}),
        "governor-1": "does not answer: ConnectError",
        "actuator-1": Readiness(ready=True),
    }
    assert [
        Check(name="verifier-1", ok=True, detail="dead_letters: 2 events are buried"),
        Check(name="gateway-1", ok=False, detail="clock: an hour ahead; store: no space"),
        Check(name="governor-1", ok=False, detail="does not answer: ConnectError"),
        Check(name="actuator-1", ok=True, detail="ready"),
        Check(name="store", ok=True, detail="has room"),
    ] == readiness(said)


def test_a_store_that_holds_newcomers_back_is_told_once_and_is_a_fault() -> None:
    held = Readiness(ready=True, warnings={"held_back": HELD})
    assert [
        Check(name="verifier-1", ok=True, detail="ready"),
        Check(name="gateway-1", ok=True, detail="ready"),
        Check(name="store", ok=False, detail=HELD),
    ] == readiness({"verifier-1": held, "gateway-1": held})


def test_what_was_refused_is_told_with_its_limit_and_the_last_words() -> None:
    quiet = Told(reason="recall_rate", what="recalls", per="key", limit=600, setting="recalls_per_minute", refused=0)
    loud = Told(
        reason="spawn_rate",
        what="spawns a minute",
        per="swarm",
        limit=600,
        setting="spawns_per_minute",
        refused=37,
        last_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
        last_swarm_id="alpha",
        last_persona_id="p1",
        last_detail="600 were spawned; ask again in 9 s",
    )
    unpaid = Told(
        reason="no_grant",
        what="thoughts that cite a grant",
        per="persona",
        limit=None,
        setting=None,
        refused=2,
        last_at=datetime(2026, 1, 1, 11, tzinfo=UTC),
        last_swarm_id="alpha",
        last_persona_id="p2",
        last_detail="70 tokens",
    )
    assert "nothing was refused" == refusals((quiet,)).detail
    assert (
        "37 spawn_rate (limit 600 per swarm, spawns_per_minute), last 2026-01-01 12:00:00Z alpha/p1: "
        "600 were spawned; ask again in 9 s; 2 no_grant, last 2026-01-01 11:00:00Z alpha/p2: 70 tokens"
    ) == refusals((quiet, unpaid, loud)).detail
