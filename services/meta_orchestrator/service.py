"""Wiring: one shell a room."""

from __future__ import annotations

from shared.runtime.service import Service


async def wire(service: Service) -> None:
    """Consume what each room decides on."""
