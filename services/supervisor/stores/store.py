"""`python -m services.supervisor.stores.store KEYS BUCKET`: the embedded object store as a container of its own, its S3 door on port 9000.

It becomes the store's process. Below the folder it is run in are its data and its inner secrets; `KEYS` has the S3 keys it was given,
`s3-access` and `s3-secret`, of who may use `BUCKET` and nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.supervisor.mesh import find_binary
from services.supervisor.running.ports import S3_GRPC, S3_PORTS
from services.supervisor.secrets.keys import private_folder, write_private
from services.supervisor.stores import object_store

PORT = 9000


def main() -> None:
    given, bucket, here = Path(sys.argv[1]), sys.argv[2], Path.cwd()
    folder, keys = here / "store", here / "keys"
    private_folder(folder)
    private_folder(keys)
    for name in ("s3-access", "s3-secret"):
        write_private(keys / name, (given / name).read_text())
    identities = object_store.configure(folder, keys, bucket)
    # its worker dials the admin's port + 10000 whatever it is told
    ports = {
        name: first + n for first, names in ((PORT, S3_PORTS), (PORT + 10_000, S3_GRPC)) for n, name in enumerate(names)
    }
    weed, everywhere = find_binary("weed"), "0.0.0.0"  # noqa: S104
    command = object_store.command(weed, folder, identities, ports, bucket=bucket, listen=everywhere)
    os.chdir(folder)
    os.execv(command[0], command)  # noqa: S606 - the container's one process


if __name__ == "__main__":
    main()
