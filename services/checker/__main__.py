"""`python -m services.checker`."""

from shared.runtime.process.first import main

if __name__ == "__main__":
    main("checker")
