"""`python -m services.memory_compactor`."""

from services.memory_compactor.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("memory_compactor", wire)
