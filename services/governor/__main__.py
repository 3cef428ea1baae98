"""`python -m services.governor`."""

from shared.runtime.process import main

if __name__ == "__main__":
    main("governor")
