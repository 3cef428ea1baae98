"""`python -m services.actuator`."""

from services.actuator.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("actuator", wire)
