"""Programs that send and receive many messages, and print how many MiB of memory that left behind."""

from __future__ import annotations

_COMMON = """
import asyncio, gc, sys, uuid
import murano_messaging as mm
from murano_messaging import aio

def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

HEADERS = {"n": 1, "list": [1, "two", b"three"], "dict": {"k": 2.5}}
uri, rounds = sys.argv[1], int(sys.argv[2])
queue = "leaks-" + uuid.uuid4().hex
"""

# Each round sends and receives 10,000 messages. The first rounds fill caches and the allocator's arenas.
SYNC = (
    _COMMON
    + """
def batch(client, count, **properties):
    body = {"body": 1} if properties else b"body"
    pending = [
        client.publish_nowait(body, routing_key=queue, persistent=False, **properties) for _ in range(count)
    ]
    mm.wait_all(pending, timeout=60)
    with client.consume(queue, prefetch=500) as deliveries:
        received = 0
        while received < count:
            for delivery in deliveries.get_many(500, timeout=60):
                if properties:
                    assert delivery.json() == body
                    assert delivery.headers == HEADERS
                assert delivery.body and delivery.routing_key == queue
                delivery.ack()
                received += 1

with mm.connect(uri) as client:
    client.declare_queue(queue, exclusive=True)
    for n in range(-5, rounds):
        if n == 0:
            before = resident()
        batch(client, 8_000)
        batch(client, 2_000, headers=HEADERS, correlation_id="c", expiration=60)
    print(resident() - before)
"""
)

ASYNCIO = (
    _COMMON
    + """
async def batch(client, count):
    pending = [
        await client.publish_nowait(b"x", routing_key=queue, persistent=False) for _ in range(count - 1000)
    ]
    await aio.wait_all(pending, timeout=60)
    await asyncio.gather(
        *(client.publish(b"x", routing_key=queue, persistent=False) for _ in range(1000))
    )
    received = 0
    async for delivery in client.consume(queue, prefetch=500):
        delivery.body
        delivery.ack()
        received += 1
        if received == count:
            break

async def main():
    async with aio.connect(uri) as client:
        await client.declare_queue(queue, exclusive=True)
        for n in range(-5, rounds):
            if n == 0:
                before = resident()
            await batch(client, 10_000)
        print(resident() - before)

asyncio.run(main())
"""
)


def allowed(rounds: int) -> float:
    """How many MiB may be more: 2 for the allocator, and 2 bytes for each message; the smallest object takes 16."""
    return 2 + rounds * 0.02
