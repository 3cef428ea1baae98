"""`python -m services.gateway`"""

from __future__ import annotations

from services.gateway.service import wire
from shared.runtime.service import main

if __name__ == "__main__":
    main("gateway", wire)
