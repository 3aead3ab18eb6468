"""TLS as each generation had it: what is verified, what is not, and the names of versions."""

from __future__ import annotations

import datetime
import ssl
import warnings

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import murano_messaging as mm
from murano_messaging.compat import InsecureTLSWarning
from test_connecting import TlsFront

pytestmark = pytest.mark.filterwarnings("ignore::murano_messaging.compat.InsecureTLSWarning")

VERSIONS = ["tlsv1", "tlsv1_1", "tlsv1_2", "sslv2", "sslv23", "sslv3"]
SERVED = {"tlsv1_2", "sslv23"}


class SelfSigned:
    """A certificate that is its own authority, of another name, as brokers inside a cloud often have it."""

    def __init__(self, folder, key=None) -> None:
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a broker somewhere")])
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
        self.path = folder / "self.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_path = folder / "self.key"
        self.key_path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    def issue_cert(self, _name: str) -> SelfSigned:
        return self

    def configure_cert(self, context: ssl.SSLContext) -> None:
        # What servers that were set up long ago still allow.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(self.path, self.key_path)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def front(uri):
    fronts = []

    def front(authority, name="localhost"):
        fronts.append(TlsFront(uri, authority, name=name))
        return fronts[-1]

    yield front
    for one in fronts:
        one.close()


@pytest.fixture
def ca(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


@pytest.fixture
def other_ca(tmp_path):
    path = tmp_path / "other.pem"
    path.write_bytes(trustme.CA().cert_pem.bytes())
    return str(path)


def client(generation, front, **options):
    return generation.package.MqClient("guest", "guest", "127.0.0.1", front.port, "/", ssl=True, **options)


def exchange_a_message(generation, client, queue):
    with client:
        client.declare(queue, ttl=60000)
        client.send(generation.message({"over": "TLS"}), queue)
        with client.open(queue) as subscription:
            message = subscription.get_message(timeout=30)
            assert generation.read(message.body) == {"over": "TLS"}
            message.ack()


def test_ca_certs_verify_the_chain_and_not_the_name(generation, front, authority, ca, queue):
    exchange_a_message(generation, client(generation, front(authority, "another.name"), ca_certs=ca), queue)


def test_another_authority_is_refused(generation, front, authority, other_ca):
    with pytest.raises(mm.TlsError) as caught:
        client(generation, front(authority), ca_certs=other_ca).connect()
    assert caught.value.tls_failure == "unknown_issuer"


def test_a_pinned_self_signed_certificate_is_accepted(generation, front, tmp_path, queue):
    pinned = SelfSigned(tmp_path)
    exchange_a_message(generation, client(generation, front(pinned), ca_certs=str(pinned.path)), queue)


def test_a_short_key_is_refused_as_the_migration_guide_says(generation, front, tmp_path):
    short = SelfSigned(tmp_path, rsa.generate_private_key(65537, 1024))
    with pytest.raises(mm.TlsError) as caught:
        client(generation, front(short), ca_certs=str(short.path)).connect()
    # Nothing that it signed can be verified.
    assert caught.value.tls_failure == "unknown_issuer"


def test_without_ca_certs(generation, front, authority, queue):
    with pytest.warns(InsecureTLSWarning) as caught:
        made = client(generation, front(authority))
    assert (len(caught), caught[0].filename) == (1, __file__)
    if generation.name == "2014":
        exchange_a_message(generation, made, queue)
    else:
        # The name is not verified. The system's authorities do not know it.
        assert "any name" in str(caught[0].message)
        with pytest.raises(mm.TlsError):
            made.connect()


def test_insecure(kombu_made, front, authority, ca, other_ca, queue):
    with pytest.warns(InsecureTLSWarning, match="not verified") as caught:
        alone = client(kombu_made, front(authority), insecure=True)
    assert (len(caught), caught[0].filename) == (1, __file__)
    exchange_a_message(kombu_made, alone, queue)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exchange_a_message(kombu_made, client(kombu_made, front(authority), ca_certs=ca, insecure=True), queue)
        # A broker shows a certificate, and then it was verified.
        with pytest.raises(mm.TlsError):
            client(kombu_made, front(authority), ca_certs=other_ca, insecure=True).connect()


@pytest.mark.parametrize("case", [str.lower, str.upper])
@pytest.mark.parametrize("version", VERSIONS)
def test_versions(kombu_made, front, authority, ca, queue, version, case):
    name = case(version)
    if version in SERVED:
        made = client(kombu_made, front(authority), ca_certs=ca, ssl_version=name)
        exchange_a_message(kombu_made, made, queue)
    else:
        with pytest.raises(RuntimeError, match=rf"^Invalid SSL version: {name}$"):
            client(kombu_made, front(authority), ca_certs=ca, ssl_version=name)


def test_a_version_that_nobody_knows(kombu_made):
    arguments = ("guest", "guest", "127.0.0.1", 5671, "/")
    with pytest.raises(RuntimeError, match=r"^Invalid SSL version: TLSv9$"):
        kombu_made.package.MqClient(*arguments, ssl=True, ssl_version="TLSv9")
    # Without TLS nobody looked at it.
    kombu_made.package.MqClient(*arguments, ssl=False, ssl_version="TLSv9")


def test_a_url_asks_for_tls_with_its_name_verified(generation, front, authority, ca, queue):
    url = generation.package.MqClient.from_url
    right, wrong = front(authority), front(authority, "another.name")
    exchange_a_message(generation, url(f"amqps://guest:guest@localhost:{right.port}?cacertfile={ca}"), queue)
    with pytest.raises(mm.TlsError):
        url(f"amqps://guest:guest@localhost:{wrong.port}", ca_file=ca).connect()
