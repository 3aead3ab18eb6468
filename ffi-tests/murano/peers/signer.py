"""Signs a plan as Murano's engine does it, or verifies one as its agent does it, with any of the wrappers.

signer.py sign|verify PACKAGE URI QUEUE KEY_FILE
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

role, package, uri, queue, key_file = sys.argv[1:]
key = pathlib.Path(key_file).read_bytes()
parts = urlsplit(uri)
Message = importlib.import_module(package + ".message").Message
MqClient = importlib.import_module(package + ".mqclient").MqClient


def sign(text):
    private = serialization.load_pem_private_key(key, None)
    return private.sign((queue + text).encode(), padding.PKCS1v15(), hashes.SHA256())


def verify(queue, message):
    text = message.body if isinstance(message.body, str) else message.body.decode()
    public = serialization.load_pem_public_key(key)
    public.verify(message.signature, (queue + text).encode(), padding.PKCS1v15(), hashes.SHA256())


with MqClient(parts.username, parts.password, parts.hostname, parts.port, "/") as client:
    if role == "sign":
        message = Message()
        message.id = "plan-1"
        message.body = {"ID": "plan-1", "Name": "naïve", "FormatVersion": "2.0.0", "Body": "return", "Scripts": {}}
        client.send(message, queue, signing_func=sign)
    else:
        with client.open(queue) as subscription:
            message = subscription.get_message(timeout=30)
            verify(queue, message)
            try:
                verify(queue + "x", message)
            except InvalidSignature:
                print(json.loads(message.body)["ID"])
            message.ack()
