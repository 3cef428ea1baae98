"""Several brokers that keep one log, each with a copy: what their configurations have beside that of one broker.

They talk to each other at ports of their own, their routes, and only who knows the password of the cluster is one of them: whoever
came in there would be asked for no key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

NAME = "mesh"
SIZES = (1, 3)
"""How many brokers there may be on one machine: the smallest number of which one may be lost is three."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One broker of a cluster on one machine. `route_port`: where it listens to the others; `door`: the port they are told, the
    same but where something stands in between."""

    name: str
    port: int
    monitor_port: int
    route_port: int
    door: int
    store_dir: str


def block(listen: str, routes: Iterable[str], password: str, more: str = "") -> str:
    """The `cluster` block of a broker that listens at `listen` and finds the others at `routes`, all as host:port; `more` are lines."""
    found = "".join(f'    "nats://broker:{password}@{route}"\n' for route in routes)
    return (
        f"cluster {{\n  name: {NAME}\n  listen: {json.dumps(listen)}\n{more}"
        f"  authorization {{\n    user: broker\n    password: {json.dumps(password)}\n  }}\n"
        f"  routes: [\n{found}  ]\n}}\n"
    )


def local_block(member: Member, members: Iterable[Member], password: str) -> str:
    """The same for one of `members` on this machine. Nobody is told of other ways to them than those that are configured."""
    more = f'  advertise: "127.0.0.1:{member.door}"\n  no_advertise: true\n'
    return block(f"127.0.0.1:{member.route_port}", (f"127.0.0.1:{other.door}" for other in members), password, more)
