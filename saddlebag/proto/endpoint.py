"""Addresses, limits and credentials that both ends of a connection share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import grpc

from saddlebag.errors import ConfigError
from saddlebag.proto.address import is_loopback
from saddlebag.proto.frames import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FATAL", "MESSAGE_OPTIONS", "RUN_OVER", "SERVICE", "ClientSecurity", "ServerSecurity", "is_loopback"]

SERVICE = "saddlebag.proto.v1.ParameterServer"

RUN_OVER = grpc.StatusCode.OUT_OF_RANGE
"""Status of a stream that ends because the run does, without a final downlink."""

FATAL = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
"""Answers that another attempt would not change. INTERNAL is none: gRPC itself says it of a stream whose peer has died."""

MESSAGE_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES + 1024),  # a frame or a snapshot chunk, and no more
    ("grpc.max_send_message_length", MAX_FRAME_BYTES + 1024),
    ("grpc.keepalive_time_ms", 20_000),  # a silent host is noticed within 30 s
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),  # windows stay at a frame, not at what a fast link would allow: they are memory
    ("grpc.http2.lookahead_bytes", 1 << 20),
]


def _read(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSecurity:
    """TLS files of the server; with `ca` clients must show a certificate it signed (mutual TLS)."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    insecure: bool = False

    def require_safe(self, host: str, has_token: bool, warn: Callable[[str], None]) -> None:
        """Refuse to serve strangers: beyond loopback, TLS and a token (or client certificates) are needed."""
        if is_loopback(host):
            return
        if self.certificate is not None and (has_token or self.ca is not None):
            return
        if not self.insecure:
            raise ConfigError(
                f"{host} can be reached from other machines: give --tls-cert and --tls-key, and a token or --tls-ca, "
                "or --insecure if you trust everybody on the network"
            )
        warn(f"serving {host} without TLS and authentication: anyone on the network can read and alter the run")

    def credentials(self) -> grpc.ServerCredentials | None:
        """The credentials as gRPC takes them, or None for plain text.

        Raises:
            ConfigError: only one of certificate and key is given, or a file cannot be read.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("--tls-cert and --tls-key go together")
        certificate, key = _read(self.certificate, "certificate"), _read(self.key, "private key")
        if certificate is None or key is None:
            return None
        ca = _read(self.ca, "CA certificate")
        return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=ca is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSecurity:
    """TLS files of a worker; `ca` alone suffices unless the server asks for client certificates."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """The credentials as gRPC takes them, or None for plain text.

        Raises:
            ConfigError: only one of certificate and key is given, or a file cannot be read.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("--tls-cert and --tls-key go together")
        if self.ca is None and self.certificate is None:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca, "CA certificate"), _read(self.key, "private key"), _read(self.certificate, "certificate")
        )
