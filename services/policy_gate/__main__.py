"""`python -m services.policy_gate`."""

from services.policy_gate.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("policy_gate", wire)
