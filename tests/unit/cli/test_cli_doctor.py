"""What `swarm doctor` makes of what services say of themselves."""

from __future__ import annotations

from services.cli.doctor import Check, Readiness, readiness

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
