"""TLS, with the meanings that Puka gave its parameters. Puka itself cannot speak TLS on Python 3.12 and later."""

from __future__ import annotations

import datetime
import os
import pathlib
import ssl
import warnings

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import puka
from tls_front import TlsFront


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


@pytest.fixture
def self_signed(tmp_path):
    return sign_itself(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def sign_itself(tmp_path, key):
    """A certificate that nobody but itself has signed, with its key, and without a name that anybody asks for."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "some broker")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "certificate.pem").write_bytes(pem)
    plain = serialization.NoEncryption()
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "both.pem").write_bytes(pem + key_pem)
    return str(tmp_path / "certificate.pem"), str(tmp_path / "both.pem")


@pytest.fixture
def front(uri, authority):
    fronts = []

    def front(**options):
        fronts.append(TlsFront(uri, authority, **options))
        return fronts[-1].uri

    yield front
    for one in fronts:
        one.close()


def parameters(**given):
    made = puka.SslConnectionParameters()
    for name, value in given.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def works(uri, made):
    client = puka.Client(uri, ssl_parameters=made)
    assert client.ssl
    assert client.wait(client.connect(), timeout=20)["version_minor"] == 9
    assert client.wait(client.queue_declare(exclusive=True), timeout=20)["message_count"] == 0
    assert client.wait(client.close(), timeout=20) == {}


def refused(uri, made):
    client = puka.Client(uri, ssl_parameters=made)
    with pytest.raises(ssl.SSLError) as caught:
        client.wait(client.connect(), timeout=20)
    return str(caught.value)


def test_with_its_authority(front, ca):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        works(front(), parameters(ca_certs=ca))
        works(front(), parameters(ca_certs=ca, require_certificate=False))


def test_by_address_and_under_another_name(front, ca):
    # The name was never checked.
    works(front().replace("localhost", "127.0.0.1"), parameters(ca_certs=ca))
    works(front(name="other.example"), parameters(ca_certs=ca))


def test_the_name_is_checked_if_one_asks(front, ca):
    works(front(), parameters(ca_certs=ca, check_hostname=True))
    assert "name" in refused(front(name="other.example"), parameters(ca_certs=ca, check_hostname=True))


def test_another_authority(front, tmp_path):
    (tmp_path / "other.pem").write_bytes(trustme.CA().cert_pem.bytes())
    for required in (True, False):
        made = parameters(ca_certs=str(tmp_path / "other.pem"), require_certificate=required)
        assert "issued by" in refused(front(), made)


def test_without_an_authority_anything_goes_with_a_warning(front, self_signed):
    for made in (None, parameters(), parameters(require_certificate=False)):
        for options in ({}, {"certificate": self_signed[1]}):
            with pytest.warns(puka.InsecureTLSWarning, match="not verified"):
                works(front(**options), made)


def test_the_warning_is_said_once(front):
    uri = front()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(3):
            client = puka.Client(uri)
            client.wait(client.connect(), timeout=20)
            client.wait(client.close(), timeout=20)
    assert [warning.category for warning in said] == [puka.InsecureTLSWarning]
    assert said[0].filename == __file__


def test_a_self_signed_certificate_that_is_known(front, self_signed, ca):
    certificate, both = self_signed
    works(front(certificate=both), parameters(ca_certs=certificate))
    refused(front(certificate=both), parameters(ca_certs=ca))
    refused(front(), parameters(ca_certs=certificate))


@pytest.mark.filterwarnings("ignore::murano_messaging.compat.InsecureTLSWarning")
def test_a_short_key_is_refused_as_the_migration_guide_says(front, tmp_path):
    certificate, both = sign_itself(tmp_path, rsa.generate_private_key(65537, 1024))
    refused(front(certificate=both), parameters(ca_certs=certificate))
    refused(front(certificate=both), parameters())


def test_a_client_certificate(front, authority, ca, tmp_path):
    mine = authority.issue_cert("client.example")
    (tmp_path / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in mine.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(mine.private_key_pem.bytes())
    (tmp_path / "both.pem").write_bytes(mine.private_key_and_cert_chain_pem.bytes())
    made = {"certfile": str(tmp_path / "chain.pem"), "keyfile": str(tmp_path / "key.pem")}
    works(front(client=True), parameters(ca_certs=ca, **made))
    works(front(client=True), parameters(ca_certs=ca, certfile=str(tmp_path / "both.pem")))
    assert "certificate" in refused(front(client=True), parameters(ca_certs=ca))
    for kind in (os.fsencode, pathlib.Path):
        files = {name: kind(path) for name, path in made.items()}
        works(front(client=True), parameters(ca_certs=kind(ca), **files))
    with pytest.raises(ValueError, match="certfile"):
        puka.Client(front(), ssl_parameters=parameters(ca_certs=ca, keyfile=made["keyfile"])).connect()


def test_a_broker_without_tls(uri, ca):
    refused(uri.replace("amqp://", "amqps://"), parameters(ca_certs=ca))


def test_files_that_are_not_there(front, tmp_path):
    with pytest.raises(FileNotFoundError):
        puka.Client(front(), ssl_parameters=parameters(ca_certs=str(tmp_path / "nothing.pem"))).connect()
    (tmp_path / "text.pem").write_text("no certificate")
    assert "PEM" in refused(front(), parameters(ca_certs=str(tmp_path / "text.pem")))
