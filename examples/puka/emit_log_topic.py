"""Topics, one half: sends a log record under a key of words and dots. ``emit_log_topic.py kern.critical Panic``"""

import sys

from common import connect

client = connect()
client.wait(client.exchange_declare(exchange="topic_logs", type="topic"))
routing_key = sys.argv[1] if len(sys.argv) > 1 else "anonymous.info"
message = " ".join(sys.argv[2:]) or "Hello World!"
client.wait(client.basic_publish(exchange="topic_logs", routing_key=routing_key, body=message))
print(" [x] Sent %r:%r" % (routing_key, message), flush=True)
client.wait(client.close())
