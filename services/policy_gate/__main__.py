"""`python -m services.policy_gate`."""

from shared.runtime.process.first import main

if __name__ == "__main__":
    main("policy_gate")
