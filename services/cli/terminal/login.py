"""Which broker a command talks to, and as whom: what was said, a context of the `nats` CLI, or the mesh of the data folder.

A context is `$XDG_CONFIG_HOME/nats/context/<name>.json` (default `~/.config`), as `nats context add` writes it (NATS ADR-21). Of its
fields these are used: `url`, `inbox_prefix`, and the files `nkey`, `ca`, `cert` and `key`, in whose names `~` and `$VAR` stand for what
they do there. A context that needs more to get in is refused: the mesh's own brokers know nkeys only, and half of an identity is
another's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import structlog

from services.cli.terminal.bus import Bus
from services.cli.terminal.target import UNREACHABLE, USAGE, Stop, Target
from shared.broker import OPERATOR, inbox_prefix
from shared.log.client.connection import Connection
from shared.log.client.tls import context as tls_context
from shared.log.port import LogUnavailable
from shared.settings import Nats, SettingsError

CONNECT_S = 2.0
"""The longest a server that is not there is waited for."""
_FILE = "file://"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, with which key, the inbox prefix that key may use, and what TLS needs, as in the settings of a service."""

    url: str
    seed: Path
    inbox: str
    ca: str = ""
    cert: str = ""
    key: str = ""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A context's fields, as far as they decide how to get in. In the order in which the `nats` CLI looks at them."""

    url: str = ""
    nkey: str = ""
    inbox_prefix: str = ""
    user: str = ""
    creds: str = ""
    nsc: str = ""
    user_jwt: str = ""
    token: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    socks_proxy: str = ""
    tls_first: bool = False


_BEYOND = ("user", "creds", "nsc", "user_jwt", "token", "socks_proxy", "tls_first")


def login(bus: Bus, target: Target) -> Login:
    """Raises `Stop` when it is not said where to, or with what."""
    context = _context(bus.nats_context) if bus.nats_context else Context()
    url, seed = bus.nats_url or context.url, bus.nats_seed or _path("nkey", context.nkey)
    ca = str(bus.nats_ca or _path("ca", context.ca) or "")
    cert, key = (
        str(said or _path(name, getattr(context, name)) or "")
        for name, said in (("cert", bus.nats_cert), ("key", bus.nats_key))
    )
    if url and seed:
        inbox = context.inbox_prefix or inbox_prefix(OPERATOR)
        return Login(url=url, seed=seed, inbox=inbox, ca=ca, cert=cert, key=key)
    if bus.nats_context and not seed:
        raise Stop(
            f"the context {bus.nats_context!r} names no nkey; say --nats-seed, the key file of the operator", USAGE
        )
    if target.url and not bus.named:
        raise Stop(
            "the broker of a mesh elsewhere is to be named: say --nats-url and --nats-seed, or --nats-context", USAGE
        )
    record = target.record
    if bus.named and not (record and record.runs):
        raise Stop(
            "say --nats-seed: the key file of the operator, keys/operator/operator.nk in the mesh's data folder", USAGE
        )
    record = target.mesh()
    seed = seed or Path(record.operator_seed_file)
    return Login(url=url or record.nats_url, seed=seed, inbox=inbox_prefix(OPERATOR), ca=ca, cert=cert, key=key)


async def connect(to: Login, name: str) -> Connection:
    """A connection as the operator. Raises `Stop`."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if not to.seed.is_file():
        raise Stop(f"{to.seed} is no key file; say --nats-seed, or mend the context", USAGE)
    try:
        tls = tls_context(Nats(url=to.url, ca_file=to.ca, cert_file=to.cert, key_file=to.key))
        return await Connection.open(
            to.url, name=name, seed_file=to.seed, inbox_prefix=to.inbox, wait_s=CONNECT_S, tls=tls
        )
    except SettingsError as error:
        raise Stop(str(error), USAGE) from error
    except (LogUnavailable, OSError, ValueError) as error:
        raise Stop(f"{error}; is the mesh up, and is {to.seed} a key it knows?", UNREACHABLE) from error


def _context(name: str) -> Context:
    if "/" in name or name in ("", ".", ".."):
        raise Stop(f"{name!r} is no name of a context; `nats context ls` has them", USAGE)
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    file = Path(root) / "nats" / "context" / f"{name}.json"
    try:
        context = msgspec.json.decode(file.read_bytes(), type=Context)
    except FileNotFoundError:
        raise Stop(f"there is no context {name!r} ({file}); `nats context ls` has them", USAGE) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Stop(f"the context {name!r} cannot be read ({file}): {error}", USAGE) from error
    if beyond := [field for field in _BEYOND if getattr(context, field)]:
        raise Stop(
            f"the context {name!r} needs {' and '.join(beyond)}, and this command logs in with an nkey alone; "
            "say --nats-url and --nats-seed instead",
            USAGE,
        )
    return context


def _path(field: str, said: str) -> Path | None:
    """The file a field of a context names; None when it names none."""
    bare = said[len(_FILE) :] if said.lower().startswith(_FILE) else said
    if "://" in bare:
        raise Stop(
            f"the context's {field} {said!r} is no file; say --nats-url, --nats-seed and --nats-ca instead", USAGE
        )
    return Path(os.path.expandvars(bare)).expanduser() if bare else None
