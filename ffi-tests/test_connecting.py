"""How to connect: options, hosts, credentials, TLS."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
import trustme

import murano_messaging as mm
from murano_messaging import aio
from tls_front import TlsFront


def address(uri: str) -> tuple[str, int]:
    parts = urlsplit(uri)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def eventually(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def test_hosts_in_any_form_and_the_first_that_answers(uri):
    host, port = address(uri)
    for hosts in (f"{host}:{port}", [f"{host}:{port}"], [("127.0.0.1", dead_port()), (host, port)]):
        with mm.connect(hosts=hosts, username="guest", password="guest", vhost="/") as client:
            assert client.vhost == "/"
            assert "127.0.0.1" in repr(client)


def test_all_options_are_taken(uri):
    with mm.connect(
        uri,
        connection_name="a test",
        client_properties={"purpose": "testing", "nested": {"n": 1}},
        heartbeat=5,
        frame_max=8192,
        channel_max=10,
        connect_timeout=5.5,
        timeout=7,
        window_messages=5,
        window_bytes=1000,
        delivery_buffer=1 << 20,
        max_body_size=1 << 20,
        recovery=mm.Recovery(max_attempts=3, max_elapsed=60, initial_delay=0.01, max_delay=0.1),
        separate_publish_connection=False,
        mechanism="amqplain",
        seed=7,
    ) as client:
        client.publish(b"x" * 100_000, routing_key="nowhere", mandatory=False)


def test_credentials_from_a_function(uri):
    asked = []

    def credentials():
        asked.append(threading.current_thread())
        return "guest", "guest"

    host, port = address(uri)
    with mm.connect(hosts=[(host, port)], credentials=credentials) as client:
        client.publish(b"x", routing_key="nowhere", mandatory=False)
    # Once for each connection, and not in the thread that waits.
    assert len(asked) == 2
    assert threading.main_thread() not in asked


def test_credentials_from_a_function_that_fails(uri, caplog):
    def credentials():
        raise LookupError("the vault is sealed with hunter2")

    with pytest.raises(mm.AuthenticationError) as caught:
        mm.connect(uri, credentials=credentials)
    assert "LookupError" in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    eventually(lambda: any("LookupError" in record.getMessage() for record in caplog.records))
    # Where it failed is said; what was said there is not.
    assert "in credentials" in caplog.text
    assert "sealed with hunter2" not in caplog.text.replace('raise LookupError("the vault is sealed with hunter2")', "")


@pytest.mark.parametrize("answer", [None, "guest", ("guest",), (1, 2), ("guest", b"hunter2"), ("guest", "hunter2\ud800")])
def test_credentials_that_are_none(uri, answer):
    with pytest.raises(mm.AuthenticationError, match="it must return the user name and the password") as caught:
        mm.connect(uri, credentials=lambda: answer)
    assert "hunter2" not in repr(caught.value)


def test_credentials_from_a_coroutine_function(uri):
    async def credentials():
        await asyncio.sleep(0)
        return "guest", "guest"

    async def main():
        async with aio.connect(uri, credentials=credentials) as client:
            await client.publish(b"x", routing_key="nowhere", mandatory=False)

    asyncio.run(main())

    class Asked:
        async def __call__(self):
            return "guest", "guest"

    for function in (credentials, functools.partial(credentials), Asked()):
        with pytest.raises(TypeError, match="coroutine function"):
            mm.connect(uri, credentials=function)


def test_a_coroutine_function_for_credentials_survives_the_loop_of_the_connect(uri):
    loops = []

    async def credentials():
        loops.append(asyncio.get_running_loop())
        return "guest", "guest"

    # Made without a loop: it belongs to the one that awaits it.
    connecting = aio.connect(uri, credentials=credentials)

    async def connect():
        loops.append(asyncio.get_running_loop())
        return await connecting

    client = asyncio.run(connect())
    assert loops[0] is loops[1]
    # The publishing connection is made now, when that loop is closed.
    asyncio.run(publish(client))
    assert len(loops) == 3 and loops[2] is not loops[0]


async def publish(client):
    await client.publish(b"x", routing_key="nowhere", mandatory=False)
    await client.close()


def test_the_first_connect_can_be_retried(uri):
    """A broker that is not there yet."""
    host, port = address(uri)
    late = dead_port()
    connected = []

    def connect():
        with mm.connect(
            f"amqp://guest:guest@127.0.0.1:{late}",
            retry_initial=True,
            recovery=mm.Recovery(initial_delay=0.01, max_delay=0.05),
        ) as client:
            connected.append(client.queue_info)

    thread = threading.Thread(target=connect)
    thread.start()
    with socket.create_server(("127.0.0.1", late)) as listener:
        # One attempt is dropped, one goes through.
        listener.accept()[0].close()
        front, _ = listener.accept()
        with front, socket.create_connection((host, port)) as back:
            ways = [threading.Thread(target=forward, args=way) for way in ((front, back), (back, front))]
            for way in ways:
                way.start()
            thread.join(30)
            for way in ways:
                way.join(30)
    assert connected


def test_what_gives_up_says_after_how_many_attempts(caplog):
    """And that it does not succeed is said at Python's default level, with the reason, once."""
    recovery = mm.Recovery(max_attempts=3, initial_delay=0.01, max_delay=0.02)
    with pytest.raises(mm.ConnectFailedError, match=r"^gave up after 3 attempts in \d+\.\d s; the last one: .*127.0.0.1"):
        mm.connect(f"amqp://127.0.0.1:{dead_port()}", retry_initial=True, recovery=recovery)

    def warnings():
        return [record for record in caplog.records if record.levelname == "WARNING"]

    eventually(warnings)
    (warning,) = warnings()
    assert "trying again" in warning.getMessage() and "127.0.0.1" in warning.getMessage()
    # One attempt is not worth a count.
    with pytest.raises(mm.ConnectFailedError, match=r"^127.0.0.1"):
        mm.connect(f"amqp://127.0.0.1:{dead_port()}")


def test_a_login_that_is_refused_is_not_retried_at_first(uri):
    with pytest.raises(mm.AuthenticationError):
        mm.connect(uri, username="guest", password="wrong", retry_initial=True)
    with pytest.raises(mm.VhostRefusedError):
        mm.connect(uri, vhost="missing", retry_initial=True)


LISTED = (
    mm.ConnectFailedError,
    mm.ConnectionLostError,
    mm.ConnectionForcedError,
    mm.ProtocolError,
    mm.AuthenticationError,
    mm.VhostRefusedError,
    mm.TlsError,
    mm.LimitReachedError,
)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"AMQP\0\1\0\0"]
)
def test_a_peer_that_is_no_amqp_server_raises_what_is_documented(answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(LISTED) as caught:
            mm.connect(hosts=listener.getsockname(), connect_timeout=30)
        server.join()
    documented = mm.connect.__doc__.rpartition("Raises")[2]
    assert f"`{type(caught.value).__name__}`" in documented, caught.value


def forward(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def test_the_secret_can_be_updated(uri):
    with mm.connect(uri) as client:
        client.update_secret("guest", reason="rotation")


# ---- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def front(uri, authority):
    fronts = []

    def front(**options):
        fronts.append(TlsFront(uri, authority, **options))
        return fronts[-1]

    yield front
    for one in fronts:
        one.close()


def test_tls_with_an_authority_from_a_file_or_bytes(front, authority, tmp_path):
    broker = front()
    pem = authority.cert_pem.bytes()
    path = tmp_path / "ca.pem"
    path.write_bytes(pem)
    options = [
        {"ca_file": str(path)},
        {"ca_file": path},
        {"ca_pem": pem},
        {"ca_pem": pem.decode()},
        {"insecure": True},
        {"ca_pem": pem, "server_name": "localhost"},
    ]
    for option in options:
        with mm.connect(broker.uri, **option) as client:
            client.check_exchange("amq.direct")
    with mm.connect(f"{broker.uri}?cacertfile={path}") as client:
        client.check_exchange("amq.direct")
    host = {"hosts": [("localhost", broker.port)], "username": "guest", "password": "guest"}
    with mm.connect(**host, tls=True, ca_file=path) as client:
        client.check_exchange("amq.direct")


def test_what_a_tls_failure_says(front, authority):
    pem = authority.cert_pem.bytes()
    cases = [
        (front(), {"ca_pem": trustme.CA().cert_pem.bytes()}, "unknown_issuer", "issued by nobody who is trusted here"),
        (front(name="other.example"), {"ca_pem": pem}, "wrong_name", "is for other.example, not for 'localhost'"),
        (front(client=True), {"ca_pem": pem}, "client_certificate_required", "wants a client certificate; give one"),
    ]
    for broker, options, failure, sentence in cases:
        with pytest.raises(mm.TlsError) as caught:
            mm.connect(broker.uri, **options)
        assert caught.value.tls_failure == failure
        assert sentence in str(caught.value)
        assert "Certificate(" not in str(caught.value) and "UnknownIssuer" not in str(caught.value)
    with mm.connect(front(name="other.example").uri, ca_pem=pem, verify_hostname=False) as client:
        client.check_exchange("amq.direct")


def test_a_client_certificate_from_files_or_bytes(front, authority, tmp_path):
    broker = front(client=True)
    certificate = authority.issue_cert("client.example")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    key = certificate.private_key_pem.bytes()
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    pem = authority.cert_pem.bytes()
    with mm.connect(broker.uri, ca_pem=pem, cert_pem=chain, key_pem=key) as client:
        client.check_exchange("amq.direct")
    files = {"cert_file": tmp_path / "chain.pem", "key_file": tmp_path / "key.pem"}
    with mm.connect(broker.uri, ca_pem=pem, **files) as client:
        client.check_exchange("amq.direct")


def test_a_key_with_a_password(front, authority):
    from cryptography.hazmat.primitives import serialization

    broker = front(client=True)
    own = authority.issue_cert("client.example")
    key = serialization.load_pem_private_key(own.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open-sesame"),
    )
    options = {
        "ca_pem": authority.cert_pem.bytes(),
        "cert_pem": b"".join(pem.bytes() for pem in own.cert_chain_pems),
        "key_pem": encrypted,
    }
    with mm.connect(broker.uri, key_password="open-sesame", **options) as client:
        client.check_exchange("amq.direct")
    for wrong, told in (({}, "key_password"), ({"key_password": "wrong-one"}, "password is not the right one")):
        with pytest.raises(mm.InvalidArgumentError, match=told) as caught:
            mm.connect(broker.uri, **options, **wrong)
        assert "wrong-one" not in str(caught.value)
