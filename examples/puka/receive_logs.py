"""Publish and subscribe, the other half: prints every log record, from a queue of its own."""

from common import connect

client = connect()
client.wait(client.exchange_declare(exchange="logs", type="fanout"))
queue = client.wait(client.queue_declare(exclusive=True))["queue"]
client.wait(client.queue_bind(exchange="logs", queue=queue))
print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
consume_promise = client.basic_consume(queue=queue, no_ack=True)
try:
    while True:
        message = client.wait(consume_promise)
        print(" [x] %r" % message["body"], flush=True)
except KeyboardInterrupt:
    client.wait(client.close())
