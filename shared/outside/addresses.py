"""Which addresses a request that outsiders may have had a say in may reach. Stricter than `ipaddress.is_global`.

`is_global` is True for NAT64, 6to4, v4-compatible addresses and multicast, all of which can lead back inside (measured). So an
IPv6 address must lie in the unicast space that is really assigned, 2000::/3, and outside every range that carries another
address in it. Sources: IANA special-purpose registries; RFC 6890, 6052 (NAT64), 3056 (6to4), 4380 (Teredo).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

MAX_ADDRESSES = 8
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_REFUSED_V6 = [
    ipaddress.ip_network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
]
_REFUSED_V4 = [
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",  # 6to4 relays
        "192.0.0.0/24",  # protocol assignments
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.175.48.0/24",  # AS112
    )
]


def is_public(text: str) -> bool:
    """Whether the address is an ordinary public unicast one. Text that is no plain address is not."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address not in _GLOBAL_UNICAST:
            return False
        return address.is_global and not any(address in network for network in _REFUSED_V6)
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _REFUSED_V4)


async def resolved(host: str | None) -> list[str]:
    """Every address of the host, in the resolver's order, without repeats. Raises `OSError` when there is no such host."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    return [str(ipaddress.ip_address(address)) for address in addresses][:MAX_ADDRESSES]
