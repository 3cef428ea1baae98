"""`python -m services.gateway`."""

from shared.runtime.process import main

if __name__ == "__main__":
    main("gateway")
