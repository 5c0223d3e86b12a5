"""Whether a Ray cluster's address answers at all: Ray itself tries for minutes."""

from __future__ import annotations

import socket

from dad_datasets.errors import UserError

LIMIT_S = 10.0


def require_reachable(address: str) -> None:
    """UserError where HOST:PORT or ray://HOST:PORT takes no connection. Names such as `auto` are left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LIMIT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--ray-address {address}: no Ray cluster could be reached: {reason}") from None
