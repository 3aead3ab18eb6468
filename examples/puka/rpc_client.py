"""Remote procedure call, the other half: asks for a Fibonacci number. ``rpc_client.py 30``"""

import sys
import uuid

from common import connect


class Fibonacci:
    def __init__(self):
        self.client = connect()
        self.answers = self.client.wait(self.client.queue_declare(exclusive=True))["queue"]
        self.consume_promise = self.client.basic_consume(queue=self.answers, no_ack=True)

    def call(self, number):
        correlation_id = str(uuid.uuid4())
        promise = self.client.basic_publish(
            exchange="",
            routing_key="rpc_queue",
            headers={"reply_to": self.answers, "correlation_id": correlation_id},
            body=str(number),
        )
        self.client.wait(promise)
        while True:
            answer = self.client.wait(self.consume_promise)
            if answer["headers"]["correlation_id"] == correlation_id:
                return int(answer["body"])


fibonacci = Fibonacci()
number = sys.argv[1] if len(sys.argv) > 1 else "30"
print(" [x] Requesting fibonacci(%s)" % number, flush=True)
print(" [.] Got %s" % fibonacci.call(number), flush=True)
fibonacci.client.wait(fibonacci.client.close())
