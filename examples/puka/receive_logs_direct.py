"""Routing, the other half: prints log records of these severities. ``receive_logs_direct.py warning error``"""

import sys

from common import connect

if len(sys.argv) < 2:
    sys.exit("usage: receive_logs_direct.py SEVERITY...")
client = connect()
client.wait(client.exchange_declare(exchange="direct_logs", type="direct"))
queue = client.wait(client.queue_declare(exclusive=True))["queue"]
for severity in sys.argv[1:]:
    client.wait(client.queue_bind(exchange="direct_logs", queue=queue, routing_key=severity))
print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
consume_promise = client.basic_consume(queue=queue, no_ack=True)
try:
    while True:
        message = client.wait(consume_promise)
        print(" [x] %r:%r" % (message["routing_key"], message["body"]), flush=True)
except KeyboardInterrupt:
    client.wait(client.close())
