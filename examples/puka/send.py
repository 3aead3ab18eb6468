"""Hello world, one half: sends a message to the queue "hello"."""

from common import connect

client = connect()
client.wait(client.queue_declare(queue="hello"))
client.wait(client.basic_publish(exchange="", routing_key="hello", body="Hello World!"))
print(" [x] Sent 'Hello World!'", flush=True)
client.wait(client.close())
