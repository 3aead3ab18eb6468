"""Hello world, the other half: prints what comes from the queue "hello"."""

from common import connect

client = connect()
client.wait(client.queue_declare(queue="hello"))
print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
consume_promise = client.basic_consume(queue="hello", no_ack=True)
try:
    while True:
        message = client.wait(consume_promise)
        print(" [x] Received %r" % message["body"], flush=True)
except KeyboardInterrupt:
    client.wait(client.close())
