"""Which policies a mesh of this machine goes by: links in its data folder, which the gate follows like any folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from services.supervisor.plan import Options
from shared.contracts.ids import fresh_id
from shared.policy.bundle import DEFAULT, found
from shared.settings import Policy

ACTIVE, SHADOW = "policy", "policy-shadow"


def picked(options: Options, data: Path, settings: Policy) -> Options:
    """With the folders of policies: what the options or settings name, else what was picked last, else the default.

    Raises `BadBundle` for what is no bundle. Where a folder is named no link is made, and nothing can be picked later.
    """
    if options.policy_dir or (settings.dir and options.policy is None):
        return options
    wanted = options.policy or (settings.bundle if settings.bundle != DEFAULT else None)
    if wanted is not None or not (data / ACTIVE).is_dir():
        point(data / ACTIVE, found(wanted or DEFAULT))
    shadow = None if settings.shadow else str(data / SHADOW)
    return msgspec.structs.replace(options, policy_dir=str(data / ACTIVE), policy_shadow=shadow)


def point(link: Path, folder: Path | None) -> None:
    """The link points to the folder from now on, at once and whole; None: it is gone."""
    if folder is None:
        link.unlink(missing_ok=True)
        return
    new = link.with_name(f"{link.name}-{fresh_id()}")
    new.symlink_to(folder.resolve())
    os.replace(new, link)
