"""For all tests: a property that takes long on a busy machine is no failure of the property."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
