"""Work queue, the other half: does one task at a time, and acks it when it is done. Several may run."""

import time

from common import connect

client = connect()
client.wait(client.queue_declare(queue="task_queue", durable=True))
print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
consume_promise = client.basic_consume(queue="task_queue", prefetch_count=1)
try:
    while True:
        message = client.wait(consume_promise)
        print(" [x] Received %r" % message["body"], flush=True)
        time.sleep(message["body"].count("."))
        print(" [x] Done", flush=True)
        client.basic_ack(message)
except KeyboardInterrupt:
    client.wait(client.close())
