"""The same service with asyncio: ``python examples/python/asyncio_service.py URI QUEUE``."""

import asyncio
import logging
import signal
import sys

from murano_messaging import aio

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
log = logging.getLogger("service")


async def main(uri: str, queue: str) -> None:
    async with aio.connect(uri, retry_initial=True, connection_name="example service") as client:
        await client.declare_queue(queue, expires=600)
        loop = asyncio.get_running_loop()
        drains = set()

        def drain() -> None:
            drains.add(asyncio.ensure_future(client.drain(timeout=30)))

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, drain)
        log.info("ready")
        async for delivery in client.consume(queue, prefetch=10):
            log.info("done: %s", delivery.text())
            await delivery.ack()
        await asyncio.gather(*drains)
    log.info("ended")


if len(sys.argv) != 3:
    sys.exit("usage: python asyncio_service.py URI QUEUE")
try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    # While it still waits for its broker.
    sys.exit(130)
