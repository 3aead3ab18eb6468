"""``delivery.process()`` and ``client.run()``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time

import pytest

import children
import murano_messaging as mm
from murano_messaging import aio


@pytest.fixture
def embedded():
    with mm.Broker() as embedded:
        yield embedded


def eventually(condition, seconds: float = 30):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)
    return found


# ---- process --------------------------------------------------------------------------------------------------------


async def test_a_block_acks_its_delivery(face, broker, queue):
    async with face.connect(broker) as client:
        await client.declare_queue(queue, expires=60)
        await client.publish(b"x", routing_key=queue)
        delivery = await client.get(queue)
        with getattr(delivery, "target", delivery).process() as same:
            assert same.body == b"x"
        with pytest.raises(mm.AlreadySettledError):
            await delivery.ack()


@pytest.mark.parametrize(("requeue", "left"), [(False, 0), (True, 1)])
def test_a_block_that_fails_rejects_its_delivery(broker, queue, requeue, left):
    with mm.connect(broker) as client:
        client.declare_queue(queue, expires=60)
        client.publish(b"x", routing_key=queue)
        with pytest.raises(ZeroDivisionError), client.get(queue).process(requeue=requeue):
            raise ZeroDivisionError
        eventually(lambda: client.queue_info(queue).message_count == left)


def test_ctrl_c_in_a_block_puts_its_message_back(embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.publish(b"x", routing_key="q")
        with pytest.raises(KeyboardInterrupt), client.get("q").process():
            raise KeyboardInterrupt
        eventually(lambda: embedded.queue_depth("q").ready == 1)


def test_a_block_may_settle_its_delivery_itself(embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        for fails in (False, True):
            client.publish(b"x", routing_key="q")
            try:
                with client.get("q").process() as delivery:
                    delivery.requeue()
                    assert not fails
            except AssertionError:
                pass
            eventually(lambda: embedded.queue_depth("q").ready == 1)
            client.purge_queue("q")


def test_what_left_a_block_is_not_replaced_where_nothing_can_be_settled(embedded):
    with mm.connect(embedded.uri) as client:
        client.declare_queue("q")
        client.publish(b"x", routing_key="q")
        with pytest.raises(ZeroDivisionError), client.get("q", no_ack=True).process():
            raise ZeroDivisionError


def test_a_cancelled_task_puts_its_message_back(embedded):
    async def main():
        async with aio.connect(embedded.uri) as client:
            await client.declare_queue("q")
            await client.publish(b"x", routing_key="q")
            begun = asyncio.Event()

            async def work():
                async with (await client.get("q")).process():
                    begun.set()
                    await asyncio.sleep(60)

            task = asyncio.ensure_future(work())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    eventually(lambda: embedded.queue_depth("q").ready == 1)


# ---- run, in threads ------------------------------------------------------------------------------------------------


def test_handlers_run_at_the_same_time_and_their_messages_are_acked(broker, queue):
    together = threading.Barrier(4)
    stop = threading.Event()
    seen = []

    def handle(delivery):
        together.wait(30)
        seen.append(delivery.body)
        if len(seen) == 20:
            stop.set()

    with mm.connect(broker) as client:
        client.declare_queue(queue, expires=60)
        for number in range(20):
            client.publish(f"{number}", routing_key=queue)
        client.run(queue, handle, concurrency=4, stop=stop)
        assert sorted(seen) == sorted(f"{number}".encode() for number in range(20))
        assert client.delete_queue(queue) == 0


def test_a_handler_that_fails_is_logged_and_the_others_go_on(embedded, caplog):
    stop = threading.Event()

    def handle(delivery):
        if delivery.body == b"last":
            stop.set()
        else:
            raise ZeroDivisionError

    with mm.connect(embedded.uri) as client:
        client.declare_queue("dead")
        client.declare_queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
        client.publish(b"bad", routing_key="q", message_id="7")
        client.publish(b"last", routing_key="q")
        with caplog.at_level(logging.ERROR):
            client.run("q", handle, stop=stop)
        assert client.get("dead").body == b"bad"
    (record,) = [record for record in caplog.records if record.name == "murano_messaging.run"]
    assert "'q' failed with message '7': rejected" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("how", ["close", "drain", "stop"])
def test_the_end_waits_for_what_was_begun_and_gives_the_rest_back(embedded, how):
    begun, go_on, stop = threading.Event(), threading.Event(), threading.Event()
    done = []

    def handle(delivery):
        begun.set()
        go_on.wait(30)
        done.append(delivery.body)

    client = mm.connect(embedded.uri)
    client.declare_queue("q")
    for number in range(5):
        client.publish(f"{number}", routing_key="q")
    running = threading.Thread(target=lambda: client.run("q", handle, stop=stop))
    running.start()
    assert begun.wait(30)
    ending = threading.Thread(target={"close": client.close, "drain": client.drain, "stop": stop.set}[how])
    ending.start()
    eventually(lambda: how == "close" or embedded.queue_depth("q").consumers == 0)
    assert running.is_alive()
    go_on.set()
    running.join(30)
    ending.join(30)
    assert done == [b"0"]
    client.close()
    # A close does not wait for a handler: what it had begun comes again.
    assert embedded.queue_depth("q").ready == (5 if how == "close" else 4)


def test_what_ends_the_consumer_is_raised(embedded):
    with mm.connect(embedded.uri) as client, mm.connect(embedded.uri) as other:
        client.declare_queue("q")
        client.publish(b"x", routing_key="q")
        with pytest.raises(mm.ConsumerCancelledError):
            client.run("q", lambda delivery: other.delete_queue("q"), concurrency=3)
        with pytest.raises(mm.NotFoundError):
            client.run("q", print)
        for concurrency, error in ((0, mm.InvalidArgumentError), ("2", TypeError)):
            with pytest.raises(error, match="concurrency"):
                client.run("q", print, concurrency=concurrency)


@pytest.mark.parametrize("way", ["threads", "asyncio"])
def test_sigterm_lets_handlers_finish(uri, queue, way):
    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        for number in range(3):
            client.publish(f"{number}", routing_key=queue)
        out = children.run(
            """
            import asyncio, os, signal, sys, threading, time
            import murano_messaging as mm
            from murano_messaging import aio

            def handle(delivery):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.3)
                print("done", delivery.text(), flush=True)

            async def aio_handle(delivery):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0.3)
                print("done", delivery.text(), flush=True)

            async def main():
                async with aio.connect(sys.argv[1]) as client:
                    await client.run(sys.argv[2], aio_handle)

            if sys.argv[3] == "asyncio":
                asyncio.run(main())
            else:
                with mm.connect(sys.argv[1]) as client:
                    client.run(sys.argv[2], handle)
            print("ended", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
            """,
            uri,
            queue,
            way,
        )
        assert out == "done 0\nended True\n"
        assert client.queue_info(queue).message_count == 2


def test_a_programs_own_handler_of_sigterm_stays(embedded):
    came = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        with mm.connect(embedded.uri) as client:
            client.declare_queue("q")
            client.publish(b"x", routing_key="q")
            client.run("q", lambda delivery: os.kill(os.getpid(), signal.SIGTERM), stop=came)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came.is_set()


@pytest.mark.parametrize("library", ["eventlet", "gevent"])
def test_handlers_run_in_green_threads(uri, queue, library):
    out = children.run(
        """
        import sys
        if sys.argv[3] == "eventlet":
            import eventlet
            eventlet.monkey_patch()
        else:
            from gevent import monkey
            monkey.patch_all()
        import threading, time
        import murano_messaging as mm

        together = []
        stop = threading.Event()

        def handle(delivery):
            together.append(delivery)
            while len(together) < 3:
                time.sleep(0.01)
            stop.set()

        with mm.connect(sys.argv[1]) as client:
            client.declare_queue(sys.argv[2], expires=60)
            for _ in range(3):
                client.publish(b"x", routing_key=sys.argv[2])
            client.run(sys.argv[2], handle, concurrency=3, stop=stop)
            print(client.delete_queue(sys.argv[2]))
        """,
        uri,
        queue,
        library,
    )
    assert out.endswith("0\n")


# ---- run, with asyncio ----------------------------------------------------------------------------------------------


def test_tasks_handle_messages_at_the_same_time(broker, queue):
    async def main():
        together = []
        stop = asyncio.Event()

        async def handle(delivery):
            together.append(delivery.body)
            while len(together) < 4:
                await asyncio.sleep(0.01)
            stop.set()

        async with aio.connect(broker) as client:
            await client.declare_queue(queue, expires=60)
            for number in range(4):
                await client.publish(f"{number}", routing_key=queue)
            await client.run(queue, handle, concurrency=4, stop=stop)
            assert sorted(together) == [b"0", b"1", b"2", b"3"]
            assert await client.delete_queue(queue) == 0

    asyncio.run(main())


def test_a_cancelled_run_puts_messages_back(embedded):
    async def main():
        begun = asyncio.Event()

        async def handle(delivery):
            begun.set()
            await asyncio.sleep(60)

        async with aio.connect(embedded.uri) as client:
            await client.declare_queue("q")
            await client.publish(b"x", routing_key="q")
            task = asyncio.ensure_future(client.run("q", handle))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while embedded.queue_depth("q").ready != 1:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_ends_the_consumer_is_raised_in_asyncio(embedded):
    async def main():
        async with aio.connect(embedded.uri) as client:
            await client.declare_queue("q")
            await client.publish(b"x", routing_key="q")

            async def handle(delivery):
                await client.delete_queue("q")

            with pytest.raises(mm.ConsumerCancelledError):
                await client.run("q", handle, concurrency=3)

    asyncio.run(asyncio.wait_for(main(), 60))
