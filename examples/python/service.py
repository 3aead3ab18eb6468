"""A service that ends well: SIGTERM and Ctrl-C drain it, so that no delivery is done half.

``python examples/python/service.py URI QUEUE``
"""

import logging
import signal
import sys
import threading

import murano_messaging as mm

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
log = logging.getLogger("service")


def main(uri: str, queue: str) -> None:
    # A broker that is not there yet is waited for.
    with mm.connect(uri, retry_initial=True, connection_name="example service") as client:
        client.declare_queue(queue, expires=600)
        client.on_event(lambda event: log.info("event: %s", event))

        def drain(*_: object) -> None:
            # In a thread: a handler interrupts the very code whose delivery is waited for.
            threading.Thread(target=client.drain, kwargs={"timeout": 30}).start()

        signal.signal(signal.SIGTERM, drain)
        signal.signal(signal.SIGINT, drain)
        log.info("ready")
        # Ends when the drain begins.
        for delivery in client.consume(queue, prefetch=10):
            log.info("done: %s", delivery.text())
            delivery.ack()
    log.info("ended")


if len(sys.argv) != 3:
    sys.exit("usage: python service.py URI QUEUE")
try:
    main(*sys.argv[1:])
except KeyboardInterrupt:
    # While it still waits for its broker.
    sys.exit(130)
