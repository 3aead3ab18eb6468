"""How the programs here connect: to the broker that the environment variable AMQP_URL names."""

import os

import puka


def connect():
    client = puka.Client(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/"))
    client.wait(client.connect())
    return client
