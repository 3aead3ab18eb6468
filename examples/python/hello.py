"""Publish a message and get it back: ``python examples/python/hello.py [URI]``."""

import sys

import murano_messaging as mm

uri = sys.argv[1] if len(sys.argv) > 1 else "memory://hello"

with mm.connect(uri) as client:
    queue = client.declare_queue(exclusive=True, durable=False).name

    # Returns when the broker has taken responsibility for the message.
    client.publish({"greeting": "hello"}, routing_key=queue)

    with client.consume(queue) as deliveries:
        delivery = deliveries.get(timeout=10)
        print(delivery.json()["greeting"])
        delivery.ack()
