"""`python -m services.supervisor.bootstrap`: declare streams and buckets, say what changed, end.

It is a process of its own so that the key that may change streams lives only as long as that takes.
"""

from __future__ import annotations

import asyncio
import os
import sys

from shared.log.port import LogUnavailable
from shared.log.streams import ensure
from shared.settings import STORE_BYTES


def main() -> int:
    """0 when the streams are as declared, 1 with the reason on stderr."""
    url, seed = os.environ["SWARM_NATS_URL"], os.environ.get("SWARM_NATS_SEED_FILE")
    try:
        changes = asyncio.run(
            ensure(
                url,
                seed,
                inbox_prefix=os.environ.get("SWARM_INBOX_PREFIX", "_INBOX"),
                store_bytes=int(os.environ.get("SWARM_STORE_BYTES", STORE_BYTES)),
            )
        )
    except LogUnavailable as error:
        print(f"streams cannot be declared: {error}", file=sys.stderr)
        return 1
    print("\n".join(changes) or "streams are as declared")
    return 0


if __name__ == "__main__":
    sys.exit(main())
