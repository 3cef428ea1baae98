"""`python -m services.persona_runner`."""

from shared.runtime.process.first import main

if __name__ == "__main__":
    main("persona_runner")
