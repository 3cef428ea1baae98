"""What a swarm may have at most: what a person set, and what the settings say where nobody did."""

from __future__ import annotations

from shared.contracts.events import Credits, Most


def ceiling(most: Most | None, default: Credits) -> Credits:
    """Of each resource."""
    told = most or Most()
    return Credits(
        **{
            name: getattr(default, name) if (own := getattr(told, name)) is None else own
            for name in Credits.__struct_fields__
        }
    )
