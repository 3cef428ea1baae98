"""`python -m services.verifier`."""

from services.verifier.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("verifier", wire)
