"""`python -m services.verifier`."""

from shared.runtime.process import main

if __name__ == "__main__":
    main("verifier")
