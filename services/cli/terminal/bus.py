"""What may be said of the broker a command is to talk to; `login.py` makes a connection of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Bus:
    """Options of every command that reads the broker itself."""

    nats_url: Annotated[
        str | None,
        Parameter(env_var="SWARM_NATS_URL", help="URL of the broker; default: the context's, or the mesh's."),
    ] = None
    nats_seed: Annotated[
        Path | None,
        Parameter(
            env_var="SWARM_NATS_SEED_FILE", help="Key file of the operator; default: the context's, or the mesh's."
        ),
    ] = None
    nats_ca: Annotated[
        Path | None,
        Parameter(
            env_var="SWARM_NATS_CA_FILE",
            help="Certificates of whom to believe that it is the broker; default: the context's.",
        ),
    ] = None
    nats_cert: Annotated[
        Path | None,
        Parameter(
            env_var="SWARM_NATS_CERT_FILE",
            help="Certificate to show a broker that wants one; default: the context's.",
        ),
    ] = None
    nats_key: Annotated[
        Path | None,
        Parameter(env_var="SWARM_NATS_KEY_FILE", help="Private key of it; default: the context's."),
    ] = None
    nats_context: Annotated[
        str | None, Parameter(env_var="SWARM_NATS_CONTEXT", help="Name of a context of the nats CLI.")
    ] = None

    @property
    def named(self) -> bool:
        """Whether a broker was named, rather than a mesh of this machine."""
        return self.nats_url is not None or self.nats_context is not None


LOCAL = Bus()
