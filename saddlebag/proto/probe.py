"""Why a server cannot be reached: one attempt by hand, after gRPC's has failed with words that name no cause."""

from __future__ import annotations

import dataclasses
import socket
import ssl
from typing import TYPE_CHECKING

from saddlebag.proto.channel import proxy_of

if TYPE_CHECKING:
    from saddlebag.proto.address import Address
    from saddlebag.proto.endpoint import ClientSecurity

__all__ = ["Finding", "probe"]

_TIMEOUT_S = 3.0
_TIMES = 3  # in a row, before a finding is told as lasting: a flipped bit can make of a certificate one that nobody trusts
_ANSWER_S = 1.0  # for what a server says after the handshake; gRPC's first frame comes at once
_NAME_DIFFERS = (62, 64)  # OpenSSL's codes: host name, IP address
_PLAIN = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong between here and a server.

    Attributes:
        text: for a person.
        lasting: whether another attempt would find the same.
    """

    text: str
    lasting: bool = False


def probe(place: Address, security: ClientSecurity, timeout_s: float = _TIMEOUT_S) -> Finding | None:
    """Try to connect as gRPC would; None where nothing is wrong up to the first call. Blocks for a few seconds at most."""
    found = _probe(place, security, timeout_s)
    for _ in range(_TIMES - 1):
        if found is None or not found.lasting:
            break
        again = _probe(place, security, timeout_s)
        if again != found:
            return again and dataclasses.replace(again, lasting=False)
    return found


def _probe(place: Address, security: ClientSecurity, timeout_s: float) -> Finding | None:
    if proxy := proxy_of(place):
        return Finding(f"the way there leads through {proxy}; name {place.host} in $no_proxy to go directly")
    try:
        with _connected(place, timeout_s) as plain:
            return _tls(plain, place, security) if security.encrypts else _plain(plain)
    except socket.gaierror:
        return Finding(f"the name {place.host} is not known here")
    except ConnectionRefusedError:
        return Finding("nothing listens there")
    except TimeoutError:
        return Finding("no answer comes from there")
    except FileNotFoundError:
        return Finding("there is no such socket")
    except OSError as error:
        return Finding(error.strerror or str(error))


def _connected(place: Address, timeout_s: float) -> socket.socket:
    if not place.path:
        return socket.create_connection((place.host, place.port), timeout_s)
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.settimeout(timeout_s)
        opened.connect(place.path)
    except BaseException:
        opened.close()
        raise
    return opened


def _plain(opened: socket.socket) -> Finding | None:
    """Whether a server expects TLS of a client that speaks plain text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    told = Finding("the server speaks TLS, and this side plain text: give --tls-ca", lasting=True)
    try:
        with context.wrap_socket(opened):
            return told
    except ssl.SSLError as error:
        return told if "ALERT" in (error.reason or "") else None
    except OSError:
        return None


def _tls(opened: socket.socket, place: Address, security: ClientSecurity) -> Finding | None:
    """Whether the two sides' TLS fits."""
    context = security.context()
    try:
        with context.wrap_socket(opened, server_hostname=place.host or "localhost") as secured:
            if secured.selected_alpn_protocol() != "h2":
                return Finding("a server with TLS answers, but no gRPC server", lasting=True)
            return _heard(secured, security)
    except ssl.SSLCertVerificationError as error:
        return Finding(_distrust(error, place, security), lasting=True)
    except ssl.SSLError as error:
        return _misfit(error, security)
    except OSError:
        return Finding("the server ended the TLS handshake; perhaps it speaks plain text")


def _heard(secured: ssl.SSLSocket, security: ClientSecurity) -> Finding | None:
    """What a server says of this side's certificate: in TLS 1.3 it looks at that when the handshake is over for a client."""
    secured.settimeout(_ANSWER_S)
    try:
        if secured.recv(1):
            return None
    except TimeoutError:
        return None
    except ConnectionResetError:
        pass
    return _unwelcome(security, "it ends the connection")


def _unwelcome(security: ClientSecurity, told: str) -> Finding:
    if security.certificate is None:
        return Finding("the server asks for a certificate of this side: give --tls-cert and --tls-key", lasting=True)
    return Finding(f"the server does not accept the certificate {security.certificate} ({told})", lasting=True)


def _distrust(error: ssl.SSLCertVerificationError, place: Address, security: ClientSecurity) -> str:
    if error.verify_code in _NAME_DIFFERS:
        return f"the server's certificate is not for {place.host} ({error.verify_message})"
    return f"the server's certificate is not trusted with {security.ca or 'the usual CAs'} ({error.verify_message})"


def _misfit(error: ssl.SSLError, security: ClientSecurity) -> Finding | None:
    reason = error.reason or ""
    if any(word in reason for word in _PLAIN):
        return Finding(
            "this side speaks TLS, and the server plain text: drop --tls-ca, or give the server --tls-cert", lasting=True
        )
    if "ALERT" in reason:
        return _unwelcome(security, reason.replace("_", " ").lower())
    return Finding(f"the TLS handshake fails: {reason or error}")
