"""TLS as each generation had it: what is verified, what is not, and the names of versions."""

from __future__ import annotations

import datetime
import pathlib
import socket
import ssl
import subprocess
import warnings
from functools import partial

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from generations import Generation

import murano_messaging as mm
from murano_messaging.compat import InsecureTLSWarning
from test_connecting import TlsFront

pytestmark = pytest.mark.filterwarnings("ignore::murano_messaging.compat.InsecureTLSWarning")

VERSIONS = ["tlsv1", "tlsv1_1", "tlsv1_2", "sslv2", "sslv23", "sslv3"]
SERVED = {"tlsv1_2", "sslv23"}


P256, P384, P521 = ec.SECP256R1, ec.SECP384R1, ec.SECP521R1
# What servers that were set up long ago still allow.
OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"


def key_of(kind):
    """A private key: on a curve, RSA of so many bits, or Ed448."""
    if isinstance(kind, int):
        return rsa.generate_private_key(65537, kind)
    return ed448.Ed448PrivateKey.generate() if kind == "Ed448" else ec.generate_private_key(kind())


class Certificate:
    """A certificate with its key in files, and a server's use of it; by default one that signed itself.

    Its name is another than that of the host, as brokers inside a cloud often have it.
    """

    def __init__(
        self, folder, kind=P256, issuer=None, digest=hashes.SHA256, authority=False, days=(-1, 1), name="broker"
    ):
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = key_of(kind)
        now = datetime.datetime.now(datetime.timezone.utc)
        first, last = (now + datetime.timedelta(days=day) for day in days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name((issuer or self).name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign((issuer or self).key, digest())
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_path = folder / f"{name}.key"
        self.key_path.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def reissue(self, issuer, *options) -> Certificate:
        """Have it issued anew by ``openssl``, which makes what the library for Python does not make any more."""
        request = self.path.with_suffix(".csr")
        subprocess.run(
            ["openssl", "req", "-new", "-key", self.key_path, "-subj", "/CN=broker", "-out", request], check=True
        )
        command = ["openssl", "x509", "-req", "-in", request, "-CA", issuer.path, "-CAkey", issuer.key_path, "-days", "1"]
        subprocess.run([*command, "-CAcreateserial", "-out", self.path, *options], check=True, stderr=subprocess.PIPE)
        return self

    def issue_cert(self, _name: str) -> Certificate:
        return self

    def configure_cert(self, context: ssl.SSLContext) -> None:
        context.set_ciphers(OLD_CIPHERS)
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
    pinned = Certificate(tmp_path)
    exchange_a_message(generation, client(generation, front(pinned), ca_certs=str(pinned.path)), queue)


# ---- what the migration guide says of OpenSSL and of us -------------------------------------------------------------


class Only:
    """A server that has nothing but one version or some ciphers."""

    def __init__(self, certificate, versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2), ciphers=OLD_CIPHERS):
        self.certificate, self.versions, self.ciphers = certificate, versions, ciphers

    def issue_cert(self, _name: str) -> Only:
        return self

    def configure_cert(self, context: ssl.SSLContext) -> None:
        self.certificate.configure_cert(context)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = self.versions
        context.set_ciphers(self.ciphers)


def issued(folder, kind=P256, authority_kind=P256, digest=hashes.SHA256, **options):
    """A broker's certificate and the authority that issued it."""
    authority = Certificate(folder, authority_kind, authority=True, name="authority")
    return Certificate(folder, kind, authority, digest, **options), authority


def old_version(folder, version):
    broker, authority = issued(folder)
    return Only(broker, (version, version)), authority


def old_ciphers(folder, ciphers, kind=2048):
    broker, authority = issued(folder, kind)
    return Only(broker, ciphers=f"{ciphers}:@SECLEVEL=0"), authority


def reissued(folder, *options):
    authority = Certificate(folder, 2048, authority=True, name="authority")
    return Certificate(folder, name="broker").reissue(authority, *options), authority


def pinned(folder, **options):
    certificate = Certificate(folder, **options)
    return certificate, certificate


CBC = "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA"
# The guide's rows: what is refused, as what, and brokers of that kind with what is in ``ca_certs``.
REFUSED = {
    "TLS 1.0 and 1.1": (
        "protocol_version",
        [partial(old_version, version=version) for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)],
    ),
    "TLS 1.2 without a suite of ECDHE with AES-GCM or ChaCha20": (
        "nothing_in_common",
        [partial(old_ciphers, ciphers=ciphers) for ciphers in (CBC, "AES256-GCM-SHA384:AES128-SHA")],
    ),
    "a broker's key that is not RSA, P-256, P-384 or Ed25519, such as P-521": (
        "nothing_in_common",
        [partial(issued, kind=kind) for kind in (P521, "Ed448")],
    ),
    "a broker's RSA key under 2048 bits": (
        "unsupported_certificate",
        [partial(issued, kind=1024, authority_kind=2048), partial(pinned, kind=1024)],
    ),
    "an authority's RSA key under 2048 bits": ("unknown_issuer", [partial(issued, authority_kind=1024)]),
    "an authority's key on P-521": (
        "unsupported_certificate",
        [partial(issued, authority_kind=P521, digest=digest) for digest in (hashes.SHA256, hashes.SHA512)],
    ),
    "a signature of SHA-512 by a P-256 or P-384 key": (
        "unsupported_certificate",
        [partial(issued, authority_kind=kind, digest=hashes.SHA512) for kind in (P256, P384)],
    ),
    "a signature of SHA-1 or SHA-224": (
        "unsupported_certificate",
        [
            lambda folder: reissued(folder, "-sha1", "-extfile", extensions(folder)),
            partial(issued, authority_kind=2048, digest=hashes.SHA224),
        ],
    ),
    "X.509 version 1": ("unsupported_certificate", [lambda folder: reissued(folder, "-sha256")]),
    "a broker's certificate that says `CA:TRUE` and was issued by another authority": (
        "unsupported_certificate",
        [partial(issued, authority=True)],
    ),
}
REFUSED_CASES = [(row, n) for row, (_, brokers) in REFUSED.items() for n in range(len(brokers))]


def extensions(folder):
    (folder / "extensions").write_text("basicConstraints = critical, CA:FALSE\n")
    return folder / "extensions"


def openssl_accepts(port, ca_path):
    """Whether OpenSSL does, as it was set up when the wrappers were written."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
    context.load_verify_locations(ca_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            context.wrap_socket(connection, server_hostname="broker").close()
        except ssl.SSLError:
            return False
    return True


@pytest.mark.parametrize(("row", "case"), REFUSED_CASES)
def test_what_openssl_accepted_and_is_refused_now(front, tmp_path, row, case):
    failure, brokers = REFUSED[row]
    server, authority = brokers[case](tmp_path)
    at = front(server)
    assert openssl_accepts(at.port, authority.path)
    with pytest.raises(mm.TlsError) as caught:
        client(Generation("2014"), at, ca_certs=str(authority.path)).connect()
    assert caught.value.tls_failure == failure, str(caught.value)


def expired_authority(folder):
    authority = Certificate(folder, authority=True, name="authority", days=(-3, -2))
    return Certificate(folder, issuer=authority), authority


def intermediate_authority(folder):
    root = Certificate(folder, authority=True, name="root")
    authority = Certificate(folder, issuer=root, authority=True, name="authority")
    return Certificate(folder, issuer=authority), authority


def known_leaf(folder):
    broker, _ = issued(folder)
    return broker, broker


ACCEPTED = {
    "an authority in `ca_certs` that has expired": expired_authority,
    "an intermediate authority in `ca_certs` without its root": intermediate_authority,
    "the broker's own certificate in `ca_certs`, although another authority issued it": known_leaf,
}


@pytest.mark.parametrize("row", list(ACCEPTED))
def test_what_openssl_refused_and_is_accepted_now(generation, front, tmp_path, queue, row):
    server, authority = ACCEPTED[row](tmp_path)
    at = front(server)
    assert not openssl_accepts(at.port, authority.path)
    exchange_a_message(generation, client(generation, at, ca_certs=str(authority.path)), queue)


@pytest.mark.parametrize("days", [(-3, -2), (2, 3)], ids=["expired", "not valid yet"])
@pytest.mark.parametrize("make", [pinned, issued])
def test_dates_are_looked_at(front, tmp_path, make, days):
    server, authority = make(tmp_path, days=days)
    at = front(server)
    assert not openssl_accepts(at.port, authority.path)
    with pytest.raises(mm.TlsError) as caught:
        client(Generation("2014"), at, ca_certs=str(authority.path)).connect()
    assert caught.value.tls_failure == "expired"


def test_the_guide_has_these_rows():
    guide = (pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "migration.md").read_text()
    table = guide[guide.index("| refused now |") :]
    table = table[: table.index("\n\n")].splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table] == list(REFUSED)
    for line, (failure, _) in zip(table, REFUSED.values()):
        assert line.split(" | ")[1].strip(" |`") == failure
    for row in ACCEPTED:
        assert f"- {row}" in guide


# ---- what is given --------------------------------------------------------------------------------------------------


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
