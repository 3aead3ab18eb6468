"""What is special to asyncio: cancelling, several loops, tasks, timeouts."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time

import pytest

import children
import murano_messaging as mm
from murano_messaging import aio
from proxy import Proxy


def loops():
    import uvloop

    return [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=[0, 1], ids=["asyncio", "uvloop"])
def run(request):
    def run(coroutine):
        loop = loops()[request.param]()
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, 60))
        finally:
            pending = asyncio.all_tasks(loop)
            loop.close()
            assert not pending

    return run


def test_cancelling_a_task_gives_its_operation_up(run, uri, queue):
    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            async with client.consume(queue) as deliveries:
                for _ in range(100):
                    task = asyncio.create_task(deliveries.get())
                    await asyncio.sleep(0)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                # A cancelled wait takes no delivery with it.
                await client.publish(b"x", routing_key=queue)
                assert (await deliveries.get(timeout=10)).body == b"x"

    run(main())


def test_cancelling_a_publish_frees_its_place_at_the_confirm(run, uri, queue):
    async def main():
        proxy = Proxy(uri)
        async with aio.connect(proxy.uri, window_messages=1) as client:
            await client.declare_queue(queue, expires=60)
            await client.publish(b"0", routing_key=queue)
            proxy.stall()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.publish(b"1", routing_key=queue), 0.05)
            # One that waits for a place leaves the queue for it.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.publish_nowait(b"2", routing_key=queue), 0.05)
            proxy.resume()
            await client.publish(b"3", routing_key=queue)
            bodies = [(await client.get(queue, no_ack=True)).body for _ in range(3)]
            assert bodies == [b"0", b"1", b"3"]
        proxy.close()

    run(main())


def test_cancelling_a_connect(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(aio.connect(f"amqp://127.0.0.1:{port}"), 0.1)
            with pytest.raises(mm.ConnectFailedError):
                await aio.connect(f"amqp://127.0.0.1:{port}", connect_timeout=0.1)

    run(main())


def test_a_drain_that_is_cancelled_holds_up_no_close(run, uri, queue):
    async def main():
        client = await aio.connect(uri)
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        consumer = client.consume(queue)
        delivery = await consumer.get(timeout=10)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.drain(50), 0.1)
        await asyncio.wait_for(client.close(), 20)
        assert delivery.stale

    run(main())


def test_a_close_waits_for_a_drain_that_somebody_waits_for(run, uri, queue):
    async def main():
        client = await aio.connect(uri)
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        consumer = client.consume(queue)
        delivery = await consumer.get(timeout=10)
        draining = asyncio.create_task(client.drain(50))
        # It ends when the drain has begun.
        with pytest.raises(mm.ClosedError):
            await consumer.get(timeout=10)
        closing = asyncio.create_task(client.close())
        done, _ = await asyncio.wait([draining, closing], timeout=0.2)
        assert not done
        await delivery.ack()
        await asyncio.gather(draining, closing)
        async with aio.connect(uri) as another:
            assert (await another.queue_info(queue)).message_count == 0

    run(main())


def test_operations_are_coroutines_to_asyncio(run, uri, queue):
    async def main():
        client = await asyncio.create_task(aio.connect(uri))
        info, none = await asyncio.gather(client.declare_queue(queue, expires=60), client.check_exchange("amq.direct"))
        assert (info.name, none) == (queue, None)
        await asyncio.wait_for(client.publish(b"x", routing_key=queue), 10)
        done, _ = await asyncio.wait([asyncio.ensure_future(client.get(queue))], timeout=10)
        assert done.pop().result().body == b"x"
        await asyncio.shield(client.close())

    run(main())


def test_an_operation_can_be_awaited_once(run, uri):
    async def main():
        async with aio.connect(uri) as client:
            operation = client.check_exchange("amq.direct")
            await operation
            with pytest.raises(RuntimeError, match="already"):
                await operation

    run(main())


def test_many_operations_at_once(run, uri, queue):
    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            await asyncio.gather(*(client.publish(b"x", routing_key=queue) for _ in range(2000)))
            assert (await client.queue_info(queue)).message_count == 2000

    run(main())


def test_other_tasks_run_while_one_waits(run, uri, queue):
    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            async with client.consume(queue, prefetch=0) as deliveries:
                waits = [asyncio.ensure_future(deliveries.get()) for _ in range(200)]
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not any(wait.done() for wait in waits)
                for n in range(200):
                    await client.publish(str(n), routing_key=queue)
                bodies = []
                for wait in asyncio.as_completed(waits, timeout=30):
                    delivery = await wait
                    bodies.append(int(delivery.body))
                    delivery.ack()
                assert sorted(bodies) == list(range(200))

    run(main())


def test_several_loops_at_once(uri, queue):
    """Each thread has a loop, of each kind; all use clients of their own."""
    failures: list[BaseException] = []

    async def main(index: int) -> None:
        name = f"{queue}-{index}"
        async with aio.connect(uri) as client:
            await client.declare_queue(name, expires=60)
            for n in range(100):
                await client.publish(str(n), routing_key=name)
            count = 0
            async for delivery in client.consume(name):
                assert int(delivery.body) == count
                delivery.ack()
                count += 1
                if count == 100:
                    break

    def work(index: int) -> None:
        loop = loops()[index % 2]()
        try:
            loop.run_until_complete(main(index))
        except BaseException as error:
            failures.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_one_client_on_several_loops(uri, queue):
    """A client is not bound to the loop it was made on."""
    client = asyncio.run(connected(uri))

    async def use(n: int) -> None:
        await client.declare_queue(queue, expires=60)
        await asyncio.gather(*(client.publish(str(n), routing_key=queue) for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(use(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.stats().confirmed == 200
    asyncio.run(closed(client))


async def connected(uri):
    return await aio.connect(uri)


async def closed(client):
    await client.close()


def test_loops_that_end_leave_no_descriptors(uri):
    import os

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def use() -> None:
        async with aio.connect(uri) as client:
            await client.check_exchange("amq.direct")

    asyncio.run(use())
    gc.collect()
    before = descriptors()
    for _ in range(20):
        asyncio.run(use())
    gc.collect()
    assert descriptors() <= before


def test_a_task_that_is_cancelled_when_its_result_is_there(run, uri, queue):
    """The result wins or the cancellation does; either way the client goes on."""

    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            for n in range(200):
                task = asyncio.ensure_future(client.publish(b"x", routing_key=queue))
                await asyncio.sleep(0 if n % 2 else 0.0005)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
            await client.publish(b"last", routing_key=queue)
            assert client.stats().in_flight == 0

    run(main())


def test_a_loop_that_cannot_watch_descriptors(uri, queue):
    """As Windows' proactor loop: a thread watches for it, and tells it once for all that is complete."""

    class Blind(asyncio.SelectorEventLoop):
        told = 0
        watches = False

        def add_reader(self, fd, callback, *args):
            raise NotImplementedError

        def call_soon_threadsafe(self, callback, *args, **options):
            self.told += 1
            return super().call_soon_threadsafe(callback, *args, **options)

    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            async with client.consume(queue, prefetch=0) as deliveries:
                for n in range(200):
                    await client.publish(str(n), routing_key=queue)
                    delivery = await deliveries.get(timeout=30)
                    assert delivery.text() == str(n)
                    delivery.ack()
            loop.told = 0
            await asyncio.gather(*(client.publish(b"x", routing_key=queue) for _ in range(1000)))
            return loop.told

    loop = Blind()
    try:
        assert loop.run_until_complete(asyncio.wait_for(main(), 60)) < 500
    finally:
        loop.close()
    until = time.monotonic() + 30
    while any(thread.name == "murano-messaging-watcher" for thread in threading.enumerate()):
        assert time.monotonic() < until, "the watcher does not end with its loop"
        time.sleep(0.01)


def test_without_a_loop_there_is_a_clear_error():
    # A peer that stays silent: an operation that is done at once needs no loop.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        operation = aio.connect(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(RuntimeError, match="loop"):
            operation.send(None)


def test_a_forgotten_await_is_warned_of(run, uri, queue):
    async def main():
        async with aio.connect(uri) as client:
            with pytest.warns(RuntimeWarning, match="never awaited"):
                client.declare_queue(queue)
            with pytest.raises(mm.NotFoundError):
                await client.queue_info(queue)
            # Given up on purpose.
            client.declare_queue(queue).close()

    run(main())


@pytest.mark.parametrize("filters", ["default", "ignore", "error"])
def test_an_operation_that_is_dropped_by_an_exception_leaves_it_alone(uri, filters):
    children.run(
        f"""
        import asyncio, sys, warnings
        from murano_messaging import aio

        warnings.simplefilter("{filters}", RuntimeWarning)
        # What cannot be raised is printed.
        sys.stderr = open("/dev/null", "w")

        async def main():
            async with aio.connect(sys.argv[1]) as client:
                for _ in range(100):
                    try:
                        await asyncio.gather(client.publish(b"a", routing_key="q"), client.publish(object()))
                    except TypeError:
                        pass
                    try:
                        [client.declare_queue("q"), 1 / 0]
                    except ZeroDivisionError:
                        pass
                    try:
                        await asyncio.gather(*(client.get("q") if n else client.get(n) for n in (1, 0)))
                    except TypeError:
                        pass
                await client.declare_queue("", exclusive=True)

        asyncio.run(main())
        """,
        uri,
    )


def test_a_backlog_leaves_turns_to_the_others(run, uri, queue):
    def work():
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.ensure_future(tick())
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            pending = [await client.publish_nowait(b"x", routing_key=queue) for _ in range(500)]
            await aio.wait_all(pending)
            for take in ("iterate", "get", "publish"):
                async with client.consume(queue, prefetch=500) as deliveries:
                    while client.stats().undelivered_bytes < 500:
                        await asyncio.sleep(0.001)
                    before, taken = ticks, []
                    if take == "iterate":
                        async for delivery in deliveries:
                            taken.append(delivery)
                            work()
                            if len(taken) == 500:
                                break
                    while len(taken) < 500:
                        taken.append(await deliveries.get())
                        work()
                        if take == "publish":
                            await client.publish_nowait(b"y", routing_key=queue)
                    # Half a second of work: a turn at least every 5 ms of it, and a margin of five.
                    assert ticks - before >= 20, (take, ticks - before)
                    for delivery in taken:
                        await delivery.requeue()
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)

    run(main())


def test_what_is_ready_at_once_is_a_coroutine_too(run, uri, queue):
    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            for _ in range(100):
                confirmation = await asyncio.get_running_loop().create_task(
                    client.publish_nowait(b"x", routing_key=queue)
                )
                await confirmation
            async with client.consume(queue) as deliveries:
                for _ in range(100):
                    delivery = await asyncio.get_running_loop().create_task(deliveries.__anext__())
                    await asyncio.get_running_loop().create_task(delivery.ack())
            ready = client.publish_nowait(b"x", routing_key=queue)
            with pytest.raises(KeyError):
                ready.throw(KeyError("thrown"))
            with pytest.raises(RuntimeError, match="reuse"):
                await ready

    run(main())


def test_a_consumer_that_is_only_polled_starts_all_the_same(run, uri, queue):
    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            await client.publish(b"x", routing_key=queue)
            deliveries = client.consume(queue)
            until = time.monotonic() + 30
            while (delivery := await deliveries.get(timeout=0)) is None:
                assert time.monotonic() < until
                await asyncio.sleep(0)
            await delivery.ack()
            await deliveries.cancel()
            # One that is cancelled before it has started is not there.
            deliveries = client.consume(queue)
            assert await deliveries.get(timeout=0) is None
            await deliveries.cancel()
            with pytest.raises(mm.ConsumerCancelledError):
                await deliveries.get(timeout=0)
            while (await client.queue_info(queue)).consumer_count:
                await asyncio.sleep(0)

    run(main())


def test_a_loop_that_is_always_late_does_not_keep_an_operation_from_its_start(run, uri, queue):
    async def busy():
        while True:
            until = time.monotonic() + 0.01
            while time.monotonic() < until:
                pass
            await asyncio.sleep(0)

    async def main():
        async with aio.connect(uri) as client:
            await client.declare_queue(queue, expires=60)
            await client.publish(b"x", routing_key=queue)
            other = asyncio.ensure_future(busy())
            async with client.consume(queue) as deliveries:
                delivery = await deliveries.get(timeout=10)
                assert delivery.body == b"x"
                await delivery.requeue()
                async for delivery in deliveries:
                    await delivery.ack()
                    break
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)

    run(main())


def test_a_consumer_is_cancelled_while_it_starts(run, uri, queue):
    """At once, whatever the broker does, and for good."""

    async def main():
        proxy = Proxy(uri)
        async with aio.connect(uri) as owner, aio.connect(proxy.uri) as client:
            await owner.declare_queue(queue, expires=60)
            proxy.stall()
            deliveries = client.consume(queue)
            waiting = [asyncio.ensure_future(deliveries.get()) for _ in range(3)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            await deliveries.cancel()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(end) for end in ends] == [mm.ConsumerCancelledError] * 3
            assert deliveries.closed
            with pytest.raises(mm.ConsumerCancelledError):
                await deliveries.get()
            with pytest.raises(mm.ConsumerCancelledError):
                await deliveries
            proxy.resume()
            # The request is behind the one that takes it back, and the broker has a process for each channel.
            while (await client.queue_info(queue)).consumer_count:
                await asyncio.sleep(0)
        proxy.close()

    run(main())


def test_the_watcher_outlives_an_error():
    from murano_messaging import _watcher

    async def main():
        read, write = os.pipe()
        calls = []
        twice = asyncio.Event()

        class Completions:
            def fileno(self):
                return read

            def __call__(self):
                os.read(read, 1)
                calls.append(1)
                if len(calls) == 1:
                    raise ValueError
                twice.set()

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: os.write(write, b"x"))
        _watcher.watch(loop, Completions())
        os.write(write, b"x")
        await asyncio.wait_for(twice.wait(), 30)
        return read, write

    descriptors = asyncio.run(main())
    until = time.monotonic() + 30
    while any(thread.name == "murano-messaging-watcher" for thread in threading.enumerate()):
        assert time.monotonic() < until, "the watcher does not end with its loop"
        time.sleep(0.01)
    for descriptor in descriptors:
        os.close(descriptor)


def test_without_a_loop_of_asyncio_an_operation_says_what_is_supported():
    # What trio does with a coroutine. The peer stays silent: an operation that is done at once needs no loop.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connecting = aio.connect(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}").__await__()
        with pytest.raises(RuntimeError, match=r"needs asyncio.*Under trio") as raised:
            # The first turn is the others'.
            for _ in range(2):
                connecting.send(None)
        assert "no running event loop" in str(raised.value.__cause__)
