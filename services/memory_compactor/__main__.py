"""`python -m services.memory_compactor`."""

from shared.runtime.process.first import main

if __name__ == "__main__":
    main("memory_compactor")
