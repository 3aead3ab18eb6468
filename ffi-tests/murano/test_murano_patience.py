"""A broker that starts late, cuts handshakes, takes no messages for a while, or does not have the queue yet."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest
from generations import PACKAGES, Generation

import murano_messaging as mm
from murano_messaging.compat import _patience

LOGGER = "murano-common.messaging"


@pytest.fixture
def embedded():
    with mm.Broker() as embedded:
        yield embedded


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """What other tests were warned of does not count here."""
    monkeypatch.setattr(_patience, "_said", _patience._Repeated())


def eventually(condition, seconds: float = 30):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)
    return found


def in_thread(function):
    """Start it; returns what waits for its result."""
    outcome = []

    def run():
        try:
            outcome.append(("returned", function()))
        except BaseException as error:
            outcome.append(("raised", error))

    thread = threading.Thread(target=run)
    thread.start()

    def join(seconds=60):
        thread.join(seconds)
        assert not thread.is_alive()
        how, value = outcome[0]
        if how == "raised":
            raise value
        return value

    join.is_waiting = thread.is_alive
    return join


def warnings_of(caplog):
    return [
        record.getMessage() for record in caplog.records if record.name == LOGGER and record.levelno >= logging.WARNING
    ]


# ---- connecting -----------------------------------------------------------------------------------------------------


def test_a_broker_that_begins_to_listen_a_moment_later_is_reached(generation, embedded, queue, caplog):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = generation.package.MqClient("guest", "guest", "127.0.0.1", port, "/")
    connected = in_thread(client.connect)
    # Refused at least once.
    eventually(lambda: warnings_of(caplog))
    embedded.listen("127.0.0.1", port)
    connected()
    with client:
        client.declare(queue)
    assert any("trying again" in text for text in warnings_of(caplog))


def test_a_connection_that_is_cut_in_the_handshake_is_made_again(generation, embedded, queue):
    target = embedded.listen().rpartition(":")[2]
    cut = []
    with socket.create_server(("127.0.0.1", 0)) as front:

        def serve():
            # The first two are cut before and after the protocol's header.
            for read in (0, 8):
                connection, _ = front.accept()
                connection.recv(read) if read else None
                connection.close()
                cut.append(read)
            connection, _ = front.accept()
            with socket.create_connection(("127.0.0.1", int(target))) as broker, connection:
                back = threading.Thread(target=pump, args=(broker, connection))
                back.start()
                pump(connection, broker)
                back.join(30)

        def pump(source, sink):
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        serving = in_thread(serve)
        with generation.package.MqClient("guest", "guest", "127.0.0.1", front.getsockname()[1], "/") as client:
            client.declare(queue)
        serving()
    assert cut == [0, 8]


def test_a_refused_login_is_not_tried_again(generation, embedded):
    uri = embedded.listen()
    embedded.refuse_logins()
    client = generation.package.MqClient.from_url(uri)
    attempts = []
    make = client._make
    client._make = lambda: (attempts.append(1), make())[1]
    with pytest.raises(mm.AuthenticationError):
        client.connect()
    assert attempts == [1]


def test_a_broker_that_stays_away_is_an_error_after_as_long_as_with_the_original(generation):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = generation.package.MqClient("guest", "guest", "127.0.0.1", port, "/")
    began = time.monotonic()
    with pytest.raises(mm.ConnectFailedError):
        client.connect()
    # The one further attempt of the original came after two seconds.
    assert time.monotonic() - began >= 2


# ---- alarms ---------------------------------------------------------------------------------------------------------


def test_the_end_of_an_alarm_is_waited_for_and_the_message_is_sent_once(generation, embedded, queue, caplog, monkeypatch):
    monkeypatch.setattr(_patience, "WARN_AFTER", 0.2)
    monkeypatch.setattr(_patience, "_LOOK", 0.1)
    with generation.package.MqClient.from_url(embedded.uri) as client:
        client._options["timeout"] = 0.5
        client.declare(queue)
        client.send(generation.message({}, "before"), queue)
        embedded.block("low on memory")
        sent = in_thread(lambda: client.send(generation.message({}, "waits"), queue))
        eventually(lambda: any("'waits'" in text and "has waited" in text for text in warnings_of(caplog)))
        assert sent.is_waiting()
        # Longer than any other operation may take.
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert sent.is_waiting()
            time.sleep(0.05)
        embedded.unblock()
        sent()
        assert embedded.queue_depth(queue).ready == 2
    assert len([text for text in warnings_of(caplog) if "has waited" in text]) == 1


def test_an_alarm_is_waited_for_as_long_as_blocked_timeout_says(generation, embedded, queue, monkeypatch):
    monkeypatch.setattr(_patience, "_LOOK", 0.1)
    uri = embedded.listen()
    client = generation.client(uri + "/", blocked_timeout=0.5)
    with client:
        client.declare(queue)
        client.send(generation.message({}, "before"), queue)
        embedded.block()
        for _ in range(2):
            with pytest.raises(mm.BlockedError):
                client.send(generation.message({}, "given up"), queue)
        embedded.unblock()
        client.send(generation.message({}, "after"), queue)


def test_a_message_on_the_wire_is_not_called_unsent_when_its_time_is_up(generation, embedded, queue, monkeypatch):
    monkeypatch.setattr(_patience, "_LOOK", 0.1)
    with generation.package.MqClient.from_url(embedded.uri) as client:
        client._options["timeout"] = 0.5
        client.declare(queue)
        client.send(generation.message({}, "before"), queue)
        # It has stopped reading and not said so.
        embedded.stall()
        with pytest.raises(mm.OperationTimeoutError, match="may arrive all the same") as caught:
            client.send(generation.message({}, "on its way"), queue)
        assert caught.value.outcome_unknown
        embedded.stall(False)
        eventually(lambda: embedded.queue_depth(queue).ready == 2)


def test_a_timeout_that_is_given_ends_the_wait_for_the_end_of_an_alarm(embedded, queue, caplog):
    old = Generation("2014")
    with old.package.MqClient.from_url(embedded.uri) as client:
        client.declare(queue)
        client.send(old.message({}, "before"), queue)
        embedded.block()
        client.send(old.message({}, "late"), queue, timeout=0.3)
        assert any("'late'" in text and "was not confirmed within 0.3 s" in text for text in warnings_of(caplog))
        embedded.unblock()


# ---- what is logged -------------------------------------------------------------------------------------------------


def test_clients_that_live_for_one_message_log_nothing_at_info(generation, embedded, queue, caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            with generation.package.MqClient.from_url(embedded.uri) as client:
                client.declare(queue)
                client.send(generation.message({}), queue)
        # Records are handed over by another thread, in order.
        with mm.connect(embedded.uri):
            eventually(lambda: [record for record in caplog.records if record.getMessage().startswith("connected")])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len([text for text in said if text.startswith("connected")]) <= 2


def test_what_repeats_is_said_once_a_minute(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(_patience.time, "monotonic", lambda: now[0])
    said = _patience._Repeated()
    told = []
    for _ in range(100):
        if said.is_due("a broker that is away"):
            told.append(now[0])
        now[0] += 3
    assert told == [1000.0, 1060.0, 1120.0, 1180.0, 1240.0]
    assert said.is_due("another broker")


# ---- queues that are not there yet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["engine", "agent"])
def test_a_result_whose_queue_is_declared_a_moment_later_arrives(name, embedded, queue, caplog):
    generation = Generation(name)
    with (
        generation.package.MqClient.from_url(embedded.uri) as client,
        mm.connect(embedded.uri) as direct,
        mm.connect(embedded.uri) as other,
    ):
        other.declare_queue("elsewhere")
        tried = threading.Event()
        publish = client._client.publish_nowait

        class Watching:
            blocked = False

            @staticmethod
            def publish_nowait(*args, **kwargs):
                tried.set()
                return publish(*args, **kwargs)

        sent = in_thread(
            lambda: _patience.publish(Watching, "{}", None, 30.0, None, routing_key=queue, message_id="result")
        )
        assert tried.wait(30)
        direct.declare_queue(queue)
        sent()
        assert direct.queue_info(queue).message_count == 1
    assert not warnings_of(caplog)


def test_a_queue_that_does_not_come_is_told_once(generation, embedded, queue, caplog):
    with generation.package.MqClient.from_url(embedded.uri) as client:
        client.send(generation.message({}, "lost"), queue)
    assert len([text for text in warnings_of(caplog) if "'lost'" in text and queue in text]) == 1


# ---- the words of an operator ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("a:5699 b", 5672, "'a:5699 b' is not a host: give name, name:port"),
        ("a b", 5672, "'a b' is not a host"),
        ("amqp://guest:secret@a", 5672, "'a' is not a host"),
        ("", 5672, "'' is not a host"),
        ("a,,b", 5672, "'' is not a host"),
        ("a:", 5672, "'a:' is not a host"),
        ("[::1", 5672, "is not a host"),
        ("a:70000", 5672, "port is '70000': give a number up to 65535"),
        ("a", "amqp", "port is 'amqp': give a number up to 65535"),
        ("a", None, "port is None: give a number"),
    ],
)
def test_hosts_and_ports_that_cannot_be_are_told_in_words(generation, host, port, told):
    with pytest.raises(ValueError) as caught:
        generation.package.MqClient("guest", "guest", host, port, "/")
    assert told in str(caught.value)
    assert "invalid literal" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", list(PACKAGES))
def test_tls_errors_speak_of_ca_certs(name, tmp_path):
    generation = Generation(name)
    nothing = str(tmp_path / "nothing.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        client = generation.package.MqClient("guest", "guest", "127.0.0.1", port, "/", ssl=True, ca_certs=nothing)
        with pytest.raises(mm.MessagingError) as caught:
            client.connect()
    assert "ca_certs" in str(caught.value)
    assert "CA file" not in str(caught.value)


def test_no_error_of_the_wrappers_names_an_argument_that_they_do_not_have():
    from murano_messaging.compat import _words

    native = {
        "unknown_issuer": "h:5671: TLS failed: the broker shows a self-signed CA certificate as its own; give it as"
        " ca_file and pin it, or have a certificate issued by it (x)",
        "client_certificate_required": "h:5671: TLS failed: the broker wants a client certificate; give one (x)",
    }
    for failure, text in native.items():
        for ca_certs in (None, "ca.pem"):
            error = mm.TlsError(text)
            error.tls_failure = failure
            ours = _words.in_words_of_murano(error, ca_certs)
            assert type(ours) is mm.TlsError
            assert ours.tls_failure == failure
            assert str(ours).startswith("h:5671: TLS failed: ")
            for name in ("ca_file", "pin it", "server_name", "(x)"):
                assert name not in str(ours)
