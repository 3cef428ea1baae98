"""`python -m services.governor`."""

from services.governor.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("governor", wire)
