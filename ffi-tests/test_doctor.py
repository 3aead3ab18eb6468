"""``murano-messaging doctor`` and ``ping``: each fault is found at its step, and said in plain words.

The faults are those of ``docs/faults.md`` that a connection can meet. They are caused on a RabbitMQ of the test's own, of
whatever version the tests run on, or on a socket.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from unittest import mock
from urllib.parse import urlsplit

import pytest
import trustme

import cli
from nodes import ControlledNode
from tls_certificates import Authority
from tls_front import TlsFront

PLAIN = [
    "name_lookup",
    "tcp",
    "amqp",
    "login",
    "virtual_host",
    "limits",
    "permissions",
    "alarms",
    "publish",
    "consume",
    "close",
]
SECURE = [*PLAIN[:2], "tls", *PLAIN[2:]]


@pytest.fixture(scope="module")
def node():
    with ControlledNode(tls=True) as node:
        yield node


@pytest.fixture(scope="module")
def host(node):
    return f"127.0.0.1:{urlsplit(node.uri).port}"


def examine(*words, status, **options):
    """Run ``doctor --json``; returns its checks."""
    done = cli.run("doctor", *words, "--json", **options)
    assert (done.returncode, done.stderr) == (status, ""), (done.returncode, done.stdout, done.stderr)
    report = json.loads(done.stdout)
    assert report["ok"] == (status == 0)
    return report["checks"]


def assert_fails(step, text, *words, ping=True, **options):
    """Both commands fail for that reason; ``doctor`` at that step, with everything before it well."""
    checks = examine(*words, status=1, **options)
    *before, last = checks
    assert all(check["ok"] for check in before), checks
    assert not last["ok"]
    assert last["step"] == step, last
    assert text in last["summary"], last
    assert last["advice"] and "\n" not in last["summary"]
    for of_a_debugger in ("OtherError", "InvalidCertificate", "UnknownIssuer", "Some("):
        assert of_a_debugger not in last["summary"], last
    if ping:
        assert text in cli.failed("ping", *words, **options)
    return checks


# ---- all is well -----------------------------------------------------------------------------------------------------


def test_a_broker_that_can_be_used_passes_every_step(node):
    checks = examine(node.uri, status=0)
    assert [check["step"] for check in checks] == PLAIN
    by_step = {check["step"]: check for check in checks}
    assert by_step["amqp"]["details"]["product"] == "RabbitMQ"
    assert by_step["login"]["details"]["user"] == "guest"
    assert by_step["limits"]["details"]["frame_max"] == 131072
    assert by_step["limits"]["details"]["channel_max"] == 2047
    assert all(check["seconds"] >= 0 for check in checks)
    text = cli.succeeded("doctor", node.uri, process=True)
    assert text.endswith("all is well\n")
    assert "guest:guest" not in text
    assert cli.succeeded("ping", node.uri).startswith("ok: RabbitMQ ")


def test_tls_shows_version_cipher_and_the_chain_with_its_names_and_days(node):
    checks = examine(node.tls_uri, "--ca-file", node.ca, status=0)
    assert [check["step"] for check in checks] == SECURE
    (tls,) = (check["details"] for check in checks if check["step"] == "tls")
    assert tls["version"].startswith("TLSv1_")
    assert tls["cipher_suite"].startswith("TLS")
    assert tls["verified"] is True and tls["expected_name"] == "localhost"
    assert tls["revocation_checked"] is False
    assert "localhost" in tls["chain"][0]["names"] and "127.0.0.1" in tls["chain"][0]["names"]
    assert tls["chain"][0]["days_left"] > 0
    text = cli.succeeded(
        "doctor", node.tls_uri, "--ca-file", node.ca, "--cert-file", node.certificate, "--key-file", node.key
    )
    assert "days left" in text and "revoked is not checked" in text
    assert "NOT verified" in cli.succeeded("doctor", node.tls_uri, "--insecure")


def test_the_embedded_broker_is_examined_too():
    checks = examine("memory://doctor", status=0)
    assert [check["step"] for check in checks] == PLAIN[2:]


def test_each_host_of_a_cluster_is_examined(node, host):
    port = closed_port()
    checks = examine(f"amqp://guest:guest@127.0.0.1:{port},{host}", status=1)
    assert [check["host"] for check in checks] == [f"127.0.0.1:{port}"] * 2 + [host] * len(PLAIN)
    assert [check["step"] for check in checks if not check["ok"]] == ["tcp"]


# ---- the network -----------------------------------------------------------------------------------------------------


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextlib.contextmanager
def server(answer):
    """A server that calls ``answer`` with each connection, and keeps it."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    kept.append(connection)
                    answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def test_nobody_listens():
    checks = assert_fails("tcp", "Connection refused", f"amqp://127.0.0.1:{closed_port()}")
    assert "start RabbitMQ" in checks[-1]["advice"]


def test_a_name_that_does_not_resolve():
    assert_fails("name_lookup", "the name cannot be resolved", "amqp://broker.invalid")


def test_a_host_that_is_silent():
    with server(lambda connection: None) as port:
        assert_fails("amqp", "no answer within", f"amqp://127.0.0.1:{port}", "--timeout", "0.5")
        assert_fails("tls", "within 0.5 s", f"amqps://127.0.0.1:{port}", "--timeout", "0.5", ping=False)
        assert "no answer within" in cli.failed("ping", f"amqps://127.0.0.1:{port}", "--timeout", "0.5")


def test_a_host_that_closes_at_once():
    def close(connection):
        connection.recv(8)
        connection.shutdown(socket.SHUT_RDWR)

    with server(close) as port:
        assert_fails("amqp", "closed the connection", f"amqp://127.0.0.1:{port}")
        assert_fails("tls", "closed the connection during the TLS handshake", f"amqps://127.0.0.1:{port}")


def test_a_port_that_is_no_broker():
    def answer(connection):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with server(answer) as port:
        assert_fails("amqp", "", f"amqp://127.0.0.1:{port}")
        assert_fails("tls", "does not speak TLS", f"amqps://127.0.0.1:{port}")


# ---- the broker says no ----------------------------------------------------------------------------------------------


def test_a_wrong_password_is_not_shown(node, host):
    checks = assert_fails("login", "check user name and password", f"amqp://guest:hunter2@{host}")
    assert "hunter2" not in json.dumps(checks)
    assert_fails("login", "check user name and password", f"amqp://nobody:hunter2@{host}")


def test_a_virtual_host_that_is_missing_or_forbidden(node, host):
    missing = assert_fails("virtual_host", "check the virtual host's name", f"amqp://guest:guest@{host}/nowhere")
    assert "rabbitmqctl add_vhost 'nowhere'" in missing[-1]["advice"]
    node.ctl("add_user", "stranger", "secret")
    assert_fails("virtual_host", "permissions", f"amqp://stranger:secret@{host}/")


@pytest.mark.parametrize(
    ("name", "permissions", "step", "needed"),
    [
        ("configure", ("^$", ".*", ".*"), "permissions", "configure"),
        ("read", (".*", ".*", "^$"), "permissions", "read"),
        ("write", (".*", "^$", ".*"), "publish", "write"),
    ],
)
def test_a_permission_that_is_missing(node, host, name, permissions, step, needed):
    user = f"without-{name}"
    node.ctl("add_user", user, "secret")
    node.ctl("set_permissions", "-p", "/", user, *permissions)
    checks = assert_fails(step, "ACCESS_REFUSED", f"amqp://{user}:secret@{host}/", ping=False)
    assert needed in checks[-1]["advice"]
    assert "set_permissions" in checks[-1]["advice"]
    # Who pings asks for no more than a login.
    assert cli.succeeded("ping", f"amqp://{user}:secret@{host}/").startswith("ok: ")


def test_the_temporary_queue_can_have_a_name_that_the_user_may_use(node, host, unique):
    node.ctl("add_user", "confined", "secret")
    node.ctl("set_permissions", "-p", "/", "confined", "^mine-", "^(mine-|amq.default)", "^mine-")
    uri = f"amqp://confined:secret@{host}/"
    checks = assert_fails("permissions", "ACCESS_REFUSED", uri, ping=False)
    assert "--queue" in cli.run("doctor", uri).stdout
    checks = examine(uri, "--queue", unique("mine"), status=0)
    assert [check["step"] for check in checks] == PLAIN


def test_a_limit_on_connections(node, host):
    node.ctl("add_user", "limited", "secret")
    node.ctl("set_permissions", "-p", "/", "limited", ".*", ".*", ".*")
    node.ctl("set_user_limits", "limited", '{"max-connections": 0}')
    checks = assert_fails("virtual_host", "limit", f"amqp://limited:secret@{host}/")
    assert "set_user_limits" in checks[-1]["advice"]


def test_an_alarm_of_the_broker(node):
    node.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        # Told at the publish: who pings does not publish.
        # In a process of its own: it ends, although the broker does not read any more.
        checks = assert_fails("alarms", "low on memory", node.uri, ping=False, process=True)
        assert "vm_memory_high_watermark" in checks[-1]["advice"]
    finally:
        node.ctl("set_vm_memory_high_watermark", "0.6")


# ---- TLS -------------------------------------------------------------------------------------------------------------


def test_amqp_to_a_tls_port_and_tls_to_a_plain_port(node, host):
    port = urlsplit(node.tls_uri).port
    checks = assert_fails("amqp", "amqps://", f"amqp://guest:guest@127.0.0.1:{port}", ping=False)
    assert "amqps://" in checks[-1]["advice"]
    assert "amqps://" in cli.failed("ping", f"amqp://guest:guest@127.0.0.1:{port}")
    checks = assert_fails("tls", "does not speak TLS", f"amqps://guest:guest@{host}")
    assert "amqp://" in checks[-1]["advice"]


def test_a_ca_that_is_not_trusted(node, tmp_path):
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(trustme.CA().cert_pem.bytes())
    for options in ([], ["--ca-file", stranger]):
        checks = assert_fails("tls", "issued by nobody who is trusted here", node.tls_uri, *options)
        assert len(checks[-1]["details"]["chain"]) >= 1, "the chain is shown although it is not accepted"
        assert checks[-1]["details"]["verified"] is False
    assert "--ca-file" in cli.run("doctor", node.tls_uri).stdout


def test_a_system_without_trusted_certificates_says_which_file_to_set(node, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for roots in ("/nowhere/roots.pem", str(empty)):
        # The environment is read by native code: in a process of its own.
        for command in ("ping", "doctor"):
            text = cli.failed(command, node.tls_uri, process=True, SSL_CERT_FILE=roots, SSL_CERT_DIR="")
            for told in ("no trusted certificates", "ca-certificates", "SSL_CERT_FILE", "--ca-file"):
                assert told in text, text
    # With an own CA the system's are not needed.
    assert cli.run("ping", node.tls_uri, "--ca-file", node.ca, process=True, SSL_CERT_FILE="/nowhere").returncode == 0


@pytest.fixture
def front(node):
    """RabbitMQ behind TLS with a certificate of the test's choice."""
    fronts = []

    def front(certificate, authority, **options):
        fronts.append(TlsFront(node.uri, authority, certificate=certificate, **options))
        return fronts[-1].uri

    yield front
    for one in fronts:
        one.close()


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("expired", "has expired"),
        ("future", "is not valid yet"),
        ("wrong_name", "is for rabbit-7.test, not for 'localhost'"),
        ("cn_only", "it has no subjectAltName"),
        ("self_signed", "is self-signed and not trusted here"),
        ("self_signed_ca", "shows a self-signed CA certificate as its own"),
    ],
)
def test_a_certificate_that_is_not_accepted(front, tmp_path, what, text):
    authority = Authority()
    certificate = getattr(authority, what)(tmp_path)
    checks = assert_fails("tls", text, front(certificate, authority), "--ca-file", authority.file(tmp_path))
    chain = checks[-1]["details"]["chain"]
    assert (chain[0]["days_left"] < 0) == (what == "expired")


def test_a_client_certificate_that_is_missing_or_not_trusted(node, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.cert_pem.bytes())
    own = stranger.issue_cert("client.test")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    secure = TlsFront(node.uri, authority, client=True)
    try:
        assert_fails("tls", "wants a client certificate", secure.uri, "--ca-file", ca, ping=False)
        assert "wants a client certificate" in cli.failed("ping", secure.uri, "--ca-file", ca)
        identity = ["--cert-file", tmp_path / "cert.pem", "--key-file", tmp_path / "key.pem"]
        assert_fails("tls", "does not accept the client certificate", secure.uri, "--ca-file", ca, *identity)
    finally:
        secure.close()


# ---- the command line itself -----------------------------------------------------------------------------------------


def test_the_uri_comes_from_the_environment_and_the_password_from_a_file(node, host, tmp_path):
    assert cli.succeeded("ping", AMQP_URL=node.uri).startswith("ok: ")
    password = tmp_path / "password"
    password.write_text("guest\nnot this\n")
    assert cli.succeeded("ping", f"amqp://guest:wrong@{host}", "--password-file", password).startswith("ok: ")
    assert cli.succeeded(
        "ping", f"amqp://{host}", "--username", "guest", "--password-file", "-", given="guest\n"
    ).startswith("ok: ")
    with mock.patch("getpass.getpass", return_value="guest"):
        assert cli.succeeded("ping", f"amqp://guest:wrong@{host}", "--ask-password").startswith("ok: ")
    password.write_text("hunter2")
    assert "hunter2" not in cli.failed("ping", f"amqp://{host}", "--password-file", password)
    assert "cannot be read" in cli.failed("ping", f"amqp://{host}", "--password-file", tmp_path / "nowhere")


def test_what_is_wrong_with_the_words_is_said_without_the_password():
    done = cli.run("ping")
    assert done.returncode == 2 and "URI" in done.stderr
    done = cli.run("ping", "rabbit")
    assert done.returncode == 2 and "is no URI" in done.stderr
    done = cli.run("ping", "amqp://a:hunter2@h", "amqp://b:hunter2@h")
    assert done.returncode == 2 and "hunter2" not in done.stderr
    assert "hunter2" not in cli.failed("ping", "amqp://a:hunter2@h/v/w")
    assert "hunter2" not in cli.failed("doctor", "amqp://a:hunter2%zz@h")
    assert "cannot be read" in cli.failed("doctor", "amqps://h", "--ca-file", "/nowhere/ca.pem")
    assert "use it with amqps://" in cli.failed("doctor", "amqp://h", "--ca-file", "/nowhere/ca.pem")


def test_help_names_every_command():
    text = cli.succeeded("--help")
    for command in ("ping", "doctor", "broker"):
        assert command in text
