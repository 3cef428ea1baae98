"""`python -m services.persona_runner`."""

from services.persona_runner.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("persona_runner", wire)
