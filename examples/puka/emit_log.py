"""Publish and subscribe, one half: sends a log record to everybody who listens. ``emit_log.py It works``"""

import sys

from common import connect

client = connect()
client.wait(client.exchange_declare(exchange="logs", type="fanout"))
message = " ".join(sys.argv[1:]) or "info: Hello World!"
client.wait(client.basic_publish(exchange="logs", routing_key="", body=message))
print(" [x] Sent %r" % message, flush=True)
client.wait(client.close())
