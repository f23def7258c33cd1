"""Certificates and keys of a Flower deployment that is made for one run: for trials and tests, not for a network."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_PEM = serialization.Encoding.PEM


def write_certificates(folder: Path, host: str) -> None:
    """Write `ca.crt`, a certificate authority, and `server.crt`, which it signed for an IP address; `.key` beside each.

    Valid for a day; the keys are readable by their owner alone.
    """
    now, names = datetime.datetime.now(datetime.UTC), ("ca", "server")
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in names}
    subjects = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"trial {name}")]) for name in names}
    for name in names:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subjects[name])
            .issuer_name(subjects["ca"])
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[name].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["ca"].public_key()), critical=False)
        )
        if name == "ca":
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(host))]
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        (folder / f"{name}.crt").write_bytes(builder.sign(keys["ca"], hashes.SHA256()).public_bytes(_PEM))
        _write_key(folder / f"{name}.key", keys[name], serialization.PrivateFormat.PKCS8)


def write_node_key(path: Path) -> None:
    """Write the key by which a SuperNode is known, and its public half with the suffix `.pub`."""
    key = ec.generate_private_key(ec.SECP384R1())
    _write_key(path, key, serialization.PrivateFormat.OpenSSH)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(_PEM, form, serialization.NoEncryption()))
