from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from saddlebag.flower.trials.credentials import write_certificates, write_node_key

if TYPE_CHECKING:
    from pathlib import Path


def test_the_authority_signs_the_servers_certificate_for_the_host(tmp_path: Path) -> None:
    write_certificates(tmp_path, "127.0.0.1")
    ca, server = (x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes()) for name in ("ca", "server"))
    server.verify_directly_issued_by(ca)
    with pytest.raises(ValueError, match="does not match"):
        ca.verify_directly_issued_by(server)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_nodes_key_is_its_owners_alone_and_the_public_half_fits(tmp_path: Path) -> None:
    write_node_key(tmp_path / "node")
    assert stat.S_IMODE((tmp_path / "node").stat().st_mode) == 0o600
    private = serialization.load_ssh_private_key((tmp_path / "node").read_bytes(), None)
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert private.public_key().public_bytes(*form) == (tmp_path / "node.pub").read_bytes()
