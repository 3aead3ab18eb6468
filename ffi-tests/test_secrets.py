"""No secret is shown: planted, everything that can be printed is printed, and all of the output is searched."""

from __future__ import annotations

import base64

import trustme

import children
import cli

PASSWORD = "canary-PASSWORD-83d1"
TOKEN = "canary-TOKEN-c07f"
KEY_PASSWORD = "canary-KEYPASSWORD-51ee"

EVERYTHING = """
    import asyncio, faulthandler, logging, sys, traceback
    faulthandler.enable()
    logging.basicConfig(level=1, stream=sys.stdout)

    import murano_messaging as mm
    from murano_messaging import aio, events
    from murano_messaging.compat import murano_agent, murano_engine

    PASSWORD, TOKEN, KEY_PASSWORD, folder = sys.argv[1:]
    CERT, KEY, CA = (open(f"{folder}/{name}.pem").read() for name in ("cert", "key", "ca"))

    def show(value):
        print(repr(value), str(value), type(value))

    def fails(function, *arguments, **options):
        try:
            function(*arguments, **options)
        except Exception as error:
            # Without the lines of this program, which have the names of the secrets only.
            print("".join(traceback.format_exception(type(error), error, error.__traceback__)))
            show(error)
            show(error.args)
            show(vars(error))
        else:
            raise AssertionError("it succeeded")

    broker = mm.Broker()
    broker.add_user("someone", PASSWORD)
    uri = broker.listen().replace("guest:guest", f"someone:{PASSWORD}")
    host = uri.rpartition("@")[2]
    show(broker)
    client = mm.connect(uri, timeout=5)
    listener = client.events()
    for value in (client, listener, client.stats(), client.server()):
        show(value)
    client.declare_queue("q")
    confirmation = client.publish_nowait("x", routing_key="q")
    show(confirmation)
    confirmation.result()
    with client.consume("q") as consumer:
        show(consumer)
        delivery = consumer.get(timeout=5)
        show(delivery)
        delivery.ack()
    client.update_secret(TOKEN)
    fails(client.update_secret, TOKEN + "\\udc80")
    broker.remove_user("someone")
    broker.close_connections()
    fails(client.queue_info, "nothing", timeout=0.5)
    while (event := listener.get(timeout=0)) is not None:
        show(event)
    client.close()

    fails(mm.connect, uri)
    fails(mm.connect, hosts=host, username="someone", password=PASSWORD)
    fails(mm.connect, hosts=host, credentials=lambda: ("someone", PASSWORD))
    fails(mm.connect, hosts=host, username="someone", password=PASSWORD + "\\udc80")
    fails(mm.connect, hosts=host, username="someone", password=PASSWORD.encode())
    fails(mm.connect, hosts=host, username=PASSWORD)
    fails(mm.connect, hosts=f"someone:{PASSWORD}@h")
    fails(mm.connect, f"amqp://someone:{PASSWORD}%zz@h")
    fails(mm.connect, f"amqp://someone:{PASSWORD}@h/a/b")
    fails(mm.connect, f"amqp://someone:{PASSWORD}@h:99999")
    fails(mm.connect, "amqps://127.0.0.1:1", cert_pem=CERT, key_pem=KEY, connect_timeout=1)
    fails(mm.connect, "amqps://127.0.0.1:1", cert_pem=KEY, key_pem=KEY)
    fails(mm.connect, "amqps://127.0.0.1:1", ca_pem=KEY)
    fails(mm.connect, "amqps://127.0.0.1:1", ca_pem=CA, cert_pem=CERT, key_pem=KEY[:60], key_password=KEY_PASSWORD)
    fails(mm.connect, "amqps://127.0.0.1:1", key_password=KEY_PASSWORD.encode())
    async def later():
        connecting = aio.connect(uri)
        show(connecting)
        await connecting

    fails(asyncio.run, later())

    name, _, port = host.partition(":")
    for package in (murano_agent, murano_engine):
        client = package.MqClient("someone", PASSWORD, name, int(port), "/")
        show(client)
        fails(client.connect)
        fails(package.MqClient, "someone", PASSWORD, f"a:{PASSWORD}@b", int(port), "/")
    print("printed everything")
"""


def searched(text, key):
    """Look for every secret in every form that it could have."""
    lines = [line for line in key.splitlines() if not line.startswith("-")]
    for secret in (PASSWORD, TOKEN, KEY_PASSWORD, *lines):
        data = secret.encode()
        for form in (secret, data.hex(), base64.b64encode(data).decode()[:-4], ", ".join(map(str, data))):
            for line in text.splitlines():
                assert form not in line, line.replace(form, "<the secret>")


def test_no_secret_is_in_anything_that_is_printed(tmp_path):
    authority = trustme.CA()
    own = authority.issue_cert("client.test")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    program = children.start(EVERYTHING, PASSWORD, TOKEN, KEY_PASSWORD, str(tmp_path), stderr=None)
    with program:
        text, _ = program.communicate(timeout=100)
    assert program.returncode == 0, text
    assert "printed everything" in text
    assert "DEBUG:murano_messaging" in text and "AuthenticationError" in text, "the search is not empty"
    searched(text, (tmp_path / "key.pem").read_text())


def test_no_command_shows_a_secret(tmp_path, uri):
    host = uri.rpartition("@")[2]
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    text = ""
    bad = f"amqp://someone:{PASSWORD}@{host}"
    for words in (
        ["doctor", bad],
        ["doctor", bad, "--json", "-v"],
        ["doctor", bad + "?heartbeat=x"],
        ["ping", bad, "-v"],
        ["ping", bad, bad],
        ["ping", f"amqp://{host}", "--password-file", password, "--username", "someone", "-v"],
        ["publish", bad, "q", "--body", "x"],
        ["consume", bad],
        ["queue", "inspect", bad, "q"],
        ["queue", "inspect", bad.replace("amqp", "http"), "q"],
        ["queue", "inspect", bad.partition("://")[2], "q"],
        ["bench", bad],
        ["top", bad],
        ["doctor", f"amqps://{host}", "--key-password-file", password, "--cert-file", password, "--key-file", password],
    ):
        done = cli.run(*words, process="-v" in words)
        assert done.returncode != 0, words
        text += done.stdout + done.stderr
    for words in (["ping"], ["doctor", "-v"], ["queue", "inspect", "q"], ["queue", "inspect"]):
        done = cli.run(*words, process="-v" in words, AMQP_URL=bad)
        assert done.returncode != 0, words
        text += done.stdout + done.stderr
    assert "check user name and password" in text
    searched(text, "")
