"""`python -m services.actuator`."""

from shared.runtime.process.first import main

if __name__ == "__main__":
    main("actuator")
