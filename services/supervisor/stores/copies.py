"""By how many brokers the log in a data folder is kept, as the folder itself tells.

A broker that is one of several and finds streams the others do not know takes them for leftovers and deletes them; one alone does not
know what those it finds were part of. So neither is started on the other's store.
"""

from __future__ import annotations

from pathlib import Path


def stores(data: Path) -> list[Path]:
    """The stores of brokers that are there, empty or not."""
    return sorted(path for path in data.glob("nats*") if path.is_dir())


def kept_otherwise(data: Path, brokers: int) -> str | None:
    """Why so many brokers cannot keep the log that is in `data`; None when they can, or there is none yet."""
    of_several = any(True for store in stores(data) for _ in store.glob("jetstream/*/_js_/_meta_"))
    if of_several and brokers == 1:
        return f"the log in {data} is kept by several brokers, which one alone cannot read: say --brokers 3"
    if not of_several and brokers > 1 and any((data / "nats").glob("jetstream/*/streams/*")):
        return f"the log in {data} is kept by one broker and does not become one of several: leave --brokers out, or use another --data"
    return None
