"""Whom to believe that it is the broker, and what to show it."""

from __future__ import annotations

import ssl

from shared.settings import Nats, SettingsError


def context(nats: Nats) -> ssl.SSLContext | None:
    """For connections to it; None where nothing says that there is TLS. Raises `SettingsError` for files that cannot be used."""
    if not (nats.ca_file or nats.cert_file or "tls://" in nats.url):
        return None
    if nats.key_file and not nats.cert_file:
        raise SettingsError("SWARM_NATS_KEY_FILE needs SWARM_NATS_CERT_FILE, the certificate of that key")
    try:
        found = ssl.create_default_context(cafile=nats.ca_file or None)
    except OSError as error:
        raise SettingsError(
            f"SWARM_NATS_CA_FILE={nats.ca_file}: {error.strerror or error}; want certificates in PEM"
        ) from error
    try:
        if nats.cert_file:
            found.load_cert_chain(nats.cert_file, nats.key_file or None)
    except OSError as error:
        raise SettingsError(
            f"SWARM_NATS_CERT_FILE={nats.cert_file}, SWARM_NATS_KEY_FILE={nats.key_file}: {error.strerror or error}; "
            "want a certificate and its key in PEM"
        ) from error
    return found
