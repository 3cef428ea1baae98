"""`python -m services.meta_orchestrator`."""

from shared.runtime.process.first import main

if __name__ == "__main__":
    main("meta_orchestrator")
