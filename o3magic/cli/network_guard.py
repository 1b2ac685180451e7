"""Lets a process reach this machine only. Its text is sent into a kernel: standard library alone.

An audit hook sees every socket of Python, whichever library opens it, and cannot be taken out
again. Programs which a notebook starts are not held by it.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

MESSAGE = "o3magic check refuses the network: {} is not on this machine"


def is_here(host: Any) -> bool:
    """Whether a host is this machine: loopback, any address, or no name at all."""
    if isinstance(host, bytes | bytearray):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str):
        return True  # None: no host is meant; a number: not the internet's
    name = host.rstrip(".").lower()
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def check(host: Any) -> None:
    """Raise OSError for any other machine."""
    if not is_here(host):
        raise OSError(MESSAGE.format(host if isinstance(host, str) else repr(host)))


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook: called before the thing is done."""
    if not event.startswith("socket."):
        return
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        check(arguments[0])
    elif event == "socket.getnameinfo":
        check(arguments[0][0])
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        check_address(arguments[1])


def check_address(address: Any) -> None:
    """An address as sockets take it; a path, of a Unix socket, is here."""
    if isinstance(address, tuple) and address:
        check(address[0])


def close() -> None:
    """Close the process, for good."""
    sys.addaudithook(hook)
    # A name given to connect is looked up before its event: it is looked at earlier.
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def closed_connect(self: socket.socket, address: Any, /) -> None:
        check_address(address)
        connect(self, address)

    def closed_connect_ex(self: socket.socket, address: Any, /) -> int:
        check_address(address)
        return connect_ex(self, address)

    socket.socket.connect = closed_connect  # type: ignore[assignment, method-assign]
    socket.socket.connect_ex = closed_connect_ex  # type: ignore[assignment, method-assign]
