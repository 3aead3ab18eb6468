"""Certificates that brokers should not have, each in a file with its key."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


class Authority:
    """A certificate authority."""

    def __init__(self) -> None:
        self._name = _name("Test CA")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(self._name, self._key.public_key(), [], (-1, 10), authority=True)

    def _sign(self, name, key, names, days, authority=False, self_signed_by=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        first, last = (now + datetime.timedelta(days=day) for day in days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if self_signed_by else self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self_signed_by or self._key, hashes.SHA256())

    def file(self, folder: pathlib.Path) -> pathlib.Path:
        """The authority's own certificate in a file."""
        path = folder / "ca.pem"
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, folder: pathlib.Path, names=("localhost",), days=(-1, 10), self_signed=False, authority=False):
        """A certificate with its key in a file."""
        key = ec.generate_private_key(ec.SECP256R1())
        general = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        signer = key if self_signed else None
        certificate = self._sign(_name("localhost"), key.public_key(), general, days, authority, signer)
        path = folder / "server.pem"
        pkcs8 = serialization.PrivateFormat.PKCS8
        private = key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def expired(self, folder: pathlib.Path) -> pathlib.Path:
        return self.issue(folder, days=(-20, -10))

    def future(self, folder: pathlib.Path) -> pathlib.Path:
        return self.issue(folder, days=(10, 20))

    def wrong_name(self, folder: pathlib.Path) -> pathlib.Path:
        return self.issue(folder, names=("rabbit-7.test",))

    def cn_only(self, folder: pathlib.Path) -> pathlib.Path:
        return self.issue(folder, names=())

    def self_signed(self, folder: pathlib.Path) -> pathlib.Path:
        return self.issue(folder, self_signed=True)

    def self_signed_ca(self, folder: pathlib.Path) -> pathlib.Path:
        return self.issue(folder, self_signed=True, authority=True)
