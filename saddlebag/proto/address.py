"""Addresses of servers as people write them: HOST:PORT, [IPv6]:PORT or unix:PATH; read and checked here alone."""

from __future__ import annotations

import dataclasses
import ipaddress
import re

from saddlebag.errors import ConfigError

__all__ = ["Address", "is_loopback", "parse_address"]

_FORMS = "HOST:PORT, [IPv6]:PORT or unix:PATH"
_MOST = 65535
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_LONGEST_HOST, _LONGEST_LABEL = 253, 63  # RFC 1035, 2.3.4


def is_loopback(host: str) -> bool:
    """Whether a host, or unix:PATH, can be reached from this machine only."""
    host = host.strip("[]")
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: name or number, IPv6 without brackets; empty for a unix socket.
        port: 0 for any, when listening.
        path: of a unix socket, else empty.
    """

    host: str
    port: int
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.name)

    @property
    def name(self) -> str:
        """The host, or the unix socket."""
        return f"unix:{self.path}" if self.path else self.host

    def at(self, port: int) -> Address:
        """The same place, at the port that was found free."""
        return self if self.path else dataclasses.replace(self, port=port)

    def __str__(self) -> str:
        if self.path:
            return self.name
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, what: str = "address", *, listening: bool = False) -> Address:
    """An address from text.

    Args:
        text: as a person wrote it.
        what: its name in an error.
        listening: whether port 0, any free one, is allowed.

    Raises:
        ConfigError: it is none.

    Example:
        >>> str(parse_address("[::1]:7777")), parse_address("unix:/run/x.sock").is_local
        ('[::1]:7777', True)
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path or "\0" in path:
            raise ConfigError(f"{what} must be {_FORMS}, got {text!r}: the path is empty")
        return Address("", 0, path)
    if scheme := re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise ConfigError(f"{what} must be {_FORMS}, got {text!r}: leave out {scheme[0]!r}")
    host, colon, number = text.rpartition(":")
    if not colon or not host:
        missing = "the host" if colon else "the port"
        raise ConfigError(f"{what} must be {_FORMS}, got {text!r}: {missing} is missing")
    lowest = 0 if listening else 1
    if not re.fullmatch(r"[0-9]{1,5}", number) or not lowest <= int(number) <= _MOST:
        raise ConfigError(f"{what} must be {_FORMS}, got {text!r}: the port must lie in [{lowest}, {_MOST}]")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(number))
        except ValueError:
            raise ConfigError(f"{what} must be {_FORMS}, got {text!r}: {host} is no IPv6 address") from None
    if ":" in host:
        raise ConfigError(f"{what} must be {_FORMS}, got {text!r}: an IPv6 address goes in brackets")
    if (
        not _HOST.fullmatch(host)
        or len(host) > _LONGEST_HOST
        or max(map(len, host.split("."))) > _LONGEST_LABEL
        or (re.fullmatch(r"[0-9.]+", host) and not _is_v4(host))
    ):
        raise ConfigError(f"{what} must be {_FORMS}, got {text[:_LONGEST_HOST]!r}: {host[:_LONGEST_LABEL]!r} is no host")
    return Address(host, int(number))


def _is_v4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
