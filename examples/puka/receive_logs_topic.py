"""Topics, the other half: prints log records whose keys match. ``receive_logs_topic.py 'kern.*' '*.critical'``"""

import sys

from common import connect

if len(sys.argv) < 2:
    sys.exit("usage: receive_logs_topic.py BINDING_KEY...")
client = connect()
client.wait(client.exchange_declare(exchange="topic_logs", type="topic"))
queue = client.wait(client.queue_declare(exclusive=True))["queue"]
for binding_key in sys.argv[1:]:
    client.wait(client.queue_bind(exchange="topic_logs", queue=queue, routing_key=binding_key))
print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
consume_promise = client.basic_consume(queue=queue, no_ack=True)
try:
    while True:
        message = client.wait(consume_promise)
        print(" [x] %r:%r" % (message["routing_key"], message["body"]), flush=True)
except KeyboardInterrupt:
    client.wait(client.close())
