"""Addresses, limits and credentials that both ends of a connection share."""

from __future__ import annotations

import dataclasses
import ssl
from typing import TYPE_CHECKING

import grpc

from saddlebag.errors import ConfigError
from saddlebag.proto.address import is_loopback
from saddlebag.proto.frames import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "FATAL",
    "LEASE_S",
    "MESSAGE_OPTIONS",
    "RUN_OVER",
    "SERVER_ANSWER_S",
    "SERVER_OPTIONS",
    "SERVICE",
    "ClientSecurity",
    "ServerSecurity",
    "is_loopback",
    "pings",
]

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
    ("grpc.http2.bdp_probe", 0),  # windows stay at a frame, not at what a fast link would allow: they are memory
    ("grpc.http2.lookahead_bytes", 1 << 20),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 128),  # of a connection: a worker has three, a client of predictions some for each thread
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),  # a peer that pings more often is no peer of ours
]
"""Beside those of messages and of `pings`."""

LEASE_S = 10.0
"""Within which a silent peer is noticed, where nothing else is said."""
_SHORTEST_PING_S = 1.5  # above what servers bear
SERVER_ANSWER_S = 120.0
"""In which a client must answer a server's ping. Its lease runs by heartbeats; this only clears away dead connections."""


def pings(lease_s: float = LEASE_S, *, answer_s: float = 0.0) -> list[tuple[str, int]]:
    """Options by which a connection whose other end is silent ends within a lease: a fifth until a ping, the rest to answer.

    The answer waits behind the data under way, 1 MiB at most: a link must carry that in 4/5 of a lease, or in `answer_s` if
    that is longer. gRPC has two clocks for it; the second one, a minute by default, is the one that ends connections.
    """
    every_ms = int(1000 * max(lease_s / 5, _SHORTEST_PING_S))
    answer_ms = int(1000 * max(lease_s * 4 / 5, _SHORTEST_PING_S, answer_s))
    return [
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", answer_ms),
        ("grpc.http2.ping_timeout_ms", answer_ms),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _read(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error


def _checked(context: ssl.SSLContext, certificate: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """A context with these files; gRPC would say of a wrong one that the port is in use, or nothing at all.

    Raises:
        ConfigError: a file cannot be read, or does not hold what it should; by name.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("--tls-cert and --tls-key go together")
    for path, what in ((certificate, "certificate"), (key, "private key"), (ca, "CA certificate")):
        _read(path, what)
    if certificate is not None and key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
        except ssl.SSLError as error:
            raise ConfigError(f"{certificate} holds no certificate in PEM") from error
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError(f"the private key {key} is not that of the certificate {certificate}") from error
            raise ConfigError(f"{key} holds no private key in PEM, or one with a password") from error
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise ConfigError(f"{ca} holds no CA certificate in PEM") from error
    return context


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
            ConfigError: only one of certificate and key is given, or a file cannot be read or does not hold what it should.
        """
        _checked(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.certificate, self.key, self.ca)
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
            ConfigError: only one of certificate and key is given, or a file cannot be read or does not hold what it should.
        """
        if self == ClientSecurity():  # nothing is given: the system's certificates, which take a while, are of no use
            return None
        self.context()
        if not self.encrypts:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca, "CA certificate"), _read(self.key, "private key"), _read(self.certificate, "certificate")
        )

    @property
    def encrypts(self) -> bool:
        """Whether TLS is spoken."""
        return self.ca is not None or self.certificate is not None

    def context(self) -> ssl.SSLContext:
        """The same for Python's own sockets; errors as `credentials`."""
        context = ssl.create_default_context() if self.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as gRPC
        context.set_alpn_protocols(["h2"])
        return _checked(context, self.certificate, self.key, self.ca)
