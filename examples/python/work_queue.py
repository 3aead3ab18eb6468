"""A queue of work with workers in threads, results by queue, and a queue that goes away by itself.

``python examples/python/work_queue.py [URI]``
"""

import sys
import threading
import uuid

import murano_messaging as mm

uri = sys.argv[1] if len(sys.argv) > 1 else "memory://work"
tasks, results = f"tasks-{uuid.uuid4().hex}", f"results-{uuid.uuid4().hex}"
COUNT = 1000


def work(client: mm.Client) -> None:
    # Each has its own consumer: the broker deals the tasks out among them.
    for delivery in client.consume(tasks, prefetch=20):
        number = delivery.json()["number"]
        client.publish({"square": number * number}, routing_key=results, correlation_id=delivery.correlation_id)
        # Acked once the result is safe: a worker that dies before that leaves its task to another.
        delivery.ack()


def run() -> dict[int, int]:
    with mm.connect(uri) as client:
        # Nobody using them for a minute, they are deleted.
        client.declare_queue(tasks, expires=60)
        client.declare_queue(results, expires=60)

        # A thousand on their way at once, and one wait for all of them.
        pending = [
            client.publish_nowait({"number": number}, routing_key=tasks, correlation_id=str(number))
            for number in range(COUNT)
        ]
        mm.wait_all(pending, timeout=30)

        workers = [threading.Thread(target=work, args=(client,)) for _ in range(4)]
        for worker in workers:
            worker.start()

        squares: dict[int, int] = {}
        with client.consume(results, prefetch=100) as deliveries:
            while len(squares) < COUNT:
                for delivery in deliveries.get_many(100):
                    squares[int(delivery.correlation_id or 0)] = delivery.json()["square"]
                    delivery.ack()

        # Ends the loops of the workers, who finish what they have in hand.
        client.drain(timeout=10)
        for worker in workers:
            worker.join()
    return squares


try:
    squares = run()
except KeyboardInterrupt:
    sys.exit(130)
assert all(square == number * number for number, square in squares.items())
print(f"{len(squares)} squares")
