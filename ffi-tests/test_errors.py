"""Exceptions: one class per kind, also built-ins, pickleable, without secrets."""

from __future__ import annotations

import inspect
import pathlib
import pickle
import re
import socket

import pytest

import murano_messaging as mm
from murano_messaging import errors
from proxy import Proxy

BUILT_IN = {
    "AccessRefusedError": PermissionError,
    "AlreadySettledError": RuntimeError,
    "AuthenticationError": PermissionError,
    "BlockedError": TimeoutError,
    "ClosedError": ConnectionError,
    "ConnectFailedError": ConnectionError,
    "ConnectionForcedError": ConnectionError,
    "ConnectionLostError": ConnectionError,
    "ConsumerCancelledError": Exception,
    "ForkedError": RuntimeError,
    "InvalidArgumentError": ValueError,
    "JsonError": ValueError,
    "LimitReachedError": ConnectionError,
    "MessagingError": Exception,
    "NackedError": Exception,
    "NotFoundError": LookupError,
    "OperationTimeoutError": TimeoutError,
    "PreconditionFailedError": Exception,
    "ProtocolError": ConnectionError,
    "PublishCancelledError": Exception,
    "RefusedError": Exception,
    "RemoteError": Exception,
    "ResourceLockedError": PermissionError,
    "TlsError": ConnectionError,
    "UnroutableError": Exception,
    "VhostRefusedError": PermissionError,
}


def test_every_class_is_known_here_and_exported():
    classes = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert classes == set(BUILT_IN) == set(errors.__all__)
    assert set(BUILT_IN) <= set(mm.__all__)


def test_every_kind_of_the_core_has_a_class():
    """Add the class to errors.py and to class_name() in python/src/errors.rs."""
    root = pathlib.Path(__file__).resolve().parent.parent
    source = (root / "core/src/error.rs").read_text()
    (body,) = re.findall(r"pub enum ErrorKind \{(.*?)\n\}", source, re.DOTALL)
    kinds = re.findall(r"^    ([A-Z]\w+),", body, re.MULTILINE)
    mapping = dict(re.findall(r'ErrorKind::(\w+) => "(\w+)"', (root / "python/src/errors.rs").read_text()))
    assert set(mapping) == set(kinds)
    assert set(mapping.values()) | {"ForkedError", "MessagingError", "RemoteError"} == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_exception_is_also_the_built_in_that_fits(name):
    error = getattr(mm, name)("what happened")
    assert isinstance(error, mm.MessagingError)
    assert isinstance(error, BUILT_IN[name])
    assert str(error) == "what happened"
    assert (error.reply_code, error.reply_text, error.outcome_unknown) == (None, None, False)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_exception_survives_pickling(name):
    error = getattr(mm, name)("what happened")
    error.reply_code, error.reply_text, error.outcome_unknown = 404, "NOT_FOUND", True
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what happened"
    assert (again.reply_code, again.reply_text, again.outcome_unknown) == (404, "NOT_FOUND", True)


def test_an_unroutable_message_survives_pickling(uri, unique):
    with mm.connect(uri) as client:
        with pytest.raises(mm.UnroutableError) as caught:
            client.publish(b"lost", routing_key=unique("nowhere"), headers={"k": [1, b"x"]})
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.returned == caught.value.returned
        assert again.returned.body == b"lost"
        assert again.returned.properties["headers"] == {"k": [1, b"x"]}


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(mm.ConnectFailedError, match=f"127.0.0.1:{port}"):
        mm.connect(f"amqp://127.0.0.1:{port}")
    with pytest.raises(ConnectionError):
        mm.connect(hosts=[("127.0.0.1", port)])


def test_a_wrong_password_and_a_missing_vhost(uri, unique):
    with pytest.raises(mm.AuthenticationError) as caught:
        mm.connect(uri, username="guest", password="hunter2")
    assert caught.value.reply_code == 403
    assert "hunter2" not in repr(caught.value)
    with pytest.raises(mm.VhostRefusedError) as caught:
        mm.connect(uri, vhost=unique("missing"))
    assert caught.value.reply_code in (402, 530)


@pytest.mark.parametrize(
    "bad",
    [
        "amqp://user:hunter2@[::1",
        "amqp://user:hunter2@host:port",
        "amqp://user:hunter2@host/a/b",
        "amqp://user:hunter2@host?nonsense=1",
        "amqp://user:hunter2%zz@host",
        "http://user:hunter2@host",
        "user:hunter2@host",
        "amqp://user:hunter2@host?cacertfile=x",
    ],
)
def test_a_bad_uri_is_refused_without_repeating_it(bad):
    with pytest.raises(mm.InvalidArgumentError) as caught:
        mm.connect(bad)
    assert "hunter2" not in repr(caught.value)
    assert "user" not in repr(caught.value).replace("user name", "")


def test_credentials_are_in_no_representation(uri):
    secret = uri.replace("guest:guest", "guest:guest")
    with mm.connect(secret) as client:
        text = repr(client) + repr(vars(type(client))) + repr(client.stats()) + repr(client.events())
        assert "guest" not in text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"nonsense": 1}, TypeError),
        ({"heartbeat": "20"}, TypeError),
        ({"heartbeat": 0.5}, mm.InvalidArgumentError),
        ({"frame_max": 100}, mm.InvalidArgumentError),
        ({"channel_max": 0}, mm.InvalidArgumentError),
        ({"channel_max": 70000}, mm.InvalidArgumentError),
        ({"timeout": 0}, mm.InvalidArgumentError),
        ({"window_messages": 0}, mm.InvalidArgumentError),
        ({"username": "only"}, mm.InvalidArgumentError),
        ({"mechanism": "magic"}, mm.InvalidArgumentError),
        ({"hosts": "host:port"}, mm.InvalidArgumentError),
        ({"hosts": [1]}, TypeError),
        ({"ca_file": "x"}, mm.InvalidArgumentError),
        ({"tls": True, "cert_file": "x"}, mm.InvalidArgumentError),
        ({"credentials": ("guest", "guest")}, TypeError),
        ({"recovery": "always"}, TypeError),
        ({"vhost": "v" * 256}, mm.InvalidArgumentError),
        ({"client_properties": {"k": object()}}, TypeError),
    ],
)
def test_options_that_cannot_be(uri, options, error):
    with pytest.raises(error):
        mm.connect(uri, **options)


def test_errors_do_not_speak_rust(uri, queue):
    direct = "amq.rabbitmq.reply-to"
    proxy = Proxy(uri)
    with mm.connect(proxy.uri) as client, socket.create_server(("127.0.0.1", 0)) as mute:
        client.declare_queue(queue, exclusive=True)
        consumer = client.consume(queue)
        texts = []
        for refused in (
            lambda: client.consume(direct),
            lambda: client.publish(b"", routing_key=queue, reply_to=direct),
            lambda: consumer.recover(requeue=False),
        ):
            with pytest.raises(mm.InvalidArgumentError) as caught:
                refused()
            texts.append(str(caught.value))
        proxy.stall()
        with pytest.raises(mm.OperationTimeoutError) as late:
            mm.wait_all([client.publish_nowait(b"x", routing_key=queue)], timeout=0)
        proxy.resume()
        with pytest.raises(mm.ConnectFailedError) as silent:
            mm.connect(hosts=mute.getsockname(), connect_timeout=0.3)
        texts += [str(late.value), str(silent.value)]
    proxy.close()
    for text in texts:
        assert not re.search(r"\((true|false)\)|pass true|\d(ns|ms|µs)\b", text), text


def test_json_that_is_not(uri, queue):
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        client.publish(b"{not json", routing_key=queue)
        delivery = client.get(queue)
        with pytest.raises(mm.JsonError) as caught:
            delivery.json()
        assert isinstance(caught.value.__cause__, ValueError)
        client.publish(b"\xff\xfe", routing_key=queue)
        with pytest.raises(ValueError):
            client.get(queue).text()
