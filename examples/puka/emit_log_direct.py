"""Routing, one half: sends a log record of some severity. ``emit_log_direct.py error Out of paper``"""

import sys

from common import connect

client = connect()
client.wait(client.exchange_declare(exchange="direct_logs", type="direct"))
severity = sys.argv[1] if len(sys.argv) > 1 else "info"
message = " ".join(sys.argv[2:]) or "Hello World!"
client.wait(client.basic_publish(exchange="direct_logs", routing_key=severity, body=message))
print(" [x] Sent %r:%r" % (severity, message), flush=True)
client.wait(client.close())
