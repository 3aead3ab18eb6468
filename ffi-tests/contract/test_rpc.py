"""Calls, casts, servers and notifications in the format of oslo.messaging; beside stock peers: ``ffi-tests/oslo``."""

from __future__ import annotations

import pytest

import murano_messaging as mm


class OddError(Exception):
    def __init__(self, *args, **kwargs):
        super().__init__(*args)
        self.kwargs = kwargs


class Sums:
    """An endpoint; it notes what it was told."""

    def __init__(self, name="one"):
        self.name = name
        self.told = []

    def add(self, context, a, b):
        return a + b

    def echo(self, context, /, **args):
        return {"args": args, "context": context, "server": self.name}

    def tell(self, context, **args):
        self.told.append(args)

    def refuse(self, context):
        raise ValueError("no such value", 7)

    def odd(self, context):
        raise OddError({1}, "\ud800", code=7)

    def unsendable(self, context):
        return {1, 2}

    def _private(self, context):
        raise AssertionError("names with an underscore are not called")


async def until(face, condition):
    for _ in range(3000):
        if condition():
            return
        await face.pause()
    raise AssertionError("not within 30 s")


async def test_a_call_returns_the_result_and_carries_the_context(face, broker, queue):
    async with face.connect(broker) as client, face.connect(broker) as serving:  # noqa: SIM117 (one line is too long)
        async with serving.rpc_server(queue, "one", [Sums()]):
            rpc = client.rpc(queue, timeout=30)
            assert await rpc.call("add", a=1, b=2) == 3
            values = {"text": "ü\u2028", "none": None, "list": [1, -(2**63), 2**64 - 1, 0.5, True, {"a": []}]}
            context = {"request_id": "req-1", "unknown": [1, {"a": None}]}
            found = await rpc.prepare(context=context, server="one").call("echo", **values)
            assert found == {"args": values, "context": context, "server": "one"}
            # Names that arguments of the call itself could have.
            found = await rpc.call("echo", self=1, method=2, context=3)
            assert found["args"] == {"self": 1, "method": 2, "context": 3}
            assert await rpc.call("oslo_rpc_server_ping") == "pong"
            assert await rpc.call("tell") is None


async def test_a_remote_exception_has_its_class_module_arguments_and_traceback(face, broker, queue):
    async with face.connect(broker) as client, client.rpc_server(queue, "one", [Sums()]):
        rpc = client.rpc(queue, timeout=30)
        with pytest.raises(mm.RemoteError, match=r"^ValueError: .*no such value") as caught:
            await rpc.call("refuse")
        error = caught.value
        assert (error.class_name, error.module, error.args) == ("ValueError", "builtins", ("no such value", 7))
        assert any("in refuse" in line for line in error.traceback)
        assert not error.outcome_unknown
        # What is no JSON goes as text.
        with pytest.raises(mm.RemoteError) as caught:
            await rpc.call("odd")
        error = caught.value
        assert (error.class_name, error.module) == ("OddError", OddError.__module__)
        assert error.args == ("{1}", "\\ud800")
        for method, version, kind in [
            ("subtract", "1.0", "NoSuchMethod"),
            ("_private", "1.0", "NoSuchMethod"),
            ("told", "1.0", "NoSuchMethod"),
            ("add", "1.1", "UnsupportedVersion"),
            ("add", "2.0", "UnsupportedVersion"),
            ("add", "1.0", "TypeError"),
            ("unsendable", "1.0", "TypeError"),
        ]:
            with pytest.raises(mm.RemoteError) as caught:
                await rpc.prepare(version=version).call(method)
            assert caught.value.class_name == kind


async def test_what_cannot_be_sent_is_said_before(face, broker, queue):
    async with face.connect(broker) as client:
        rpc = client.rpc(queue, timeout=30)
        before = client.stats().published
        for value, kind in [
            (float("nan"), mm.InvalidArgumentError),
            (2**64, mm.InvalidArgumentError),
            ("\ud800", mm.InvalidArgumentError),
            ({1}, TypeError),
            ({1: 2}, TypeError),
        ]:
            with pytest.raises(kind):
                await rpc.cast("tell", value=value)
        endless = []
        endless.append(endless)
        with pytest.raises(mm.InvalidArgumentError, match="deep"):
            await rpc.call("tell", value=endless)
        for version in ("one", "2.0"):
            with pytest.raises(mm.InvalidArgumentError):
                await rpc.prepare(version=version, version_cap="1.4").call("tell")
        assert rpc.can_send_version("1.4")
        assert client.stats().published == before
        for wrong in [{"nonsense": 1}, {"monitor": 1}]:
            with pytest.raises((TypeError, mm.InvalidArgumentError)):
                await rpc.prepare(**wrong).call("tell")
        with pytest.raises(mm.InvalidArgumentError):
            client.rpc("")
        with pytest.raises(mm.InvalidArgumentError, match="rabbit_quorum_queues"):
            client.rpc(queue, options={"rabbit_quorum_queues": True})


async def test_casts_wait_for_a_server_that_has_not_started(face, broker, queue):
    async with face.connect(broker) as client:
        rpc = client.rpc(queue, timeout=30)
        for number in range(5):
            await rpc.cast("tell", n=number)
            await rpc.prepare(server="one").cast("tell", n=10 + number)
        sums = Sums()
        async with client.rpc_server(queue, "one", [sums]):
            await until(face, lambda: len(sums.told) == 10)
        assert sorted(told["n"] for told in sums.told) == [*range(5), *range(10, 15)]


async def test_a_fanout_cast_reaches_every_server(face, broker, queue):
    async with face.connect(broker) as client:
        servers = [Sums("one"), Sums("two")]
        one, two = (client.rpc_server(queue, server.name, [server]) for server in servers)
        async with one, two:
            await client.rpc(queue).fanout("tell", n=1)
            await until(face, lambda: all(server.told == [{"n": 1}] for server in servers))
            # Those without `fanout` are shared.
            found = {(await client.rpc(queue, timeout=30).call("echo"))["server"] for _ in range(20)}
            assert found == {"one", "two"}


async def test_many_calls_at_a_time(face, broker, queue):
    async with face.connect(broker) as client, face.connect(broker) as serving:  # noqa: SIM117 (one line is too long)
        async with serving.rpc_server(queue, "one", [Sums()], concurrency=4):
            rpc = client.rpc(queue, timeout=30)

            async def ask(number):
                for _ in range(5):
                    assert await rpc.call("add", a=number, b=1) == number + 1

            await face.together(*(lambda number=number: ask(number) for number in range(12)))


async def test_a_call_without_an_answer_times_out(face, broker, queue):
    async with face.connect(broker) as client:
        with pytest.raises(mm.OperationTimeoutError, match="no answer") as caught:
            await client.rpc(queue, timeout=0.3).call("add", a=1, b=2)
        assert caught.value.outcome_unknown


async def test_interfaces_have_names_and_versions(face, broker, queue):
    class Target:
        namespace = "admin"
        version = "2.3"
        accepted_namespaces = ("admin", "root", None)

    class Stock:
        """As endpoints of oslo.messaging are written."""

        target = Target()

        def stop(self, context):
            return "stopped"

    endpoint = mm.Endpoint({"stop": lambda context: "default"}, version="1.5")
    async with face.connect(broker) as client, client.rpc_server(queue, "one", [endpoint, Stock()]):
        rpc = client.rpc(queue, timeout=30)
        assert await rpc.prepare(version="1.4").call("stop") == "default"
        for namespace in ("admin", "root", None):
            assert await rpc.prepare(namespace=namespace, version="2.1").call("stop") == "stopped"


async def test_a_stopped_server_leaves_the_rest_and_can_start_again(face, broker, queue):
    async with face.connect(broker) as client:
        sums = Sums()
        server = client.rpc_server(queue, "one", [sums])
        await server.start()
        with pytest.raises(RuntimeError):
            await server.start()
        rpc = client.rpc(queue, timeout=30)
        await rpc.call("tell", n=0)
        await server.stop()
        await server.stop()
        await rpc.cast("tell", n=1)
        assert sums.told == [{"n": 0}]
        async with server:
            await until(face, lambda: sums.told == [{"n": 0}, {"n": 1}])


async def test_a_failure_of_a_failure_arrives_as_it_was(face, broker, queue):
    """A method calls another one, which raises."""
    async with face.connect(broker) as client:

        class Relay:
            def __init__(self, error):
                self.error = error

            def relay(self, context):
                raise self.error

        async with client.rpc_server(queue, "one", [Sums()]):
            rpc = client.rpc(queue, timeout=30)
            with pytest.raises(mm.RemoteError) as caught:
                await rpc.call("refuse")
        async with client.rpc_server(queue, "two", [Relay(caught.value)]):
            with pytest.raises(mm.RemoteError) as relayed:
                await rpc.call("relay")
        for name in ("class_name", "module", "message", "args", "traceback"):
            assert getattr(relayed.value, name) == getattr(caught.value, name)


async def test_a_notification_waits_for_its_listener(face, broker, queue):
    async with face.connect(broker) as client:
        notifier = client.notifier("compute.host-1", topics=[queue], context={"request_id": "req-1"})
        await notifier.info("instance.create", {"id": 7})
        bare = client.notifier("compute.host-1", topics=queue, envelope=False)
        await bare.notify("error", "instance.fail", [8])
        seen = {}
        async with client.notification_listener(queue) as listener:
            for _ in range(2):
                notification = await listener.get(timeout=30)
                assert notification.publisher_id == "compute.host-1"
                assert len(notification.message_id) == 36 and notification.timestamp
                seen[notification.priority, notification.event_type] = (notification.payload, notification.context)
                notification.ack()
            assert await listener.get(timeout=0.05) is None
        assert seen == {
            ("info", "instance.create"): ({"id": 7}, {"request_id": "req-1"}),
            ("error", "instance.fail"): ([8], {}),
        }
        with pytest.raises(mm.InvalidArgumentError, match="priority"):
            await notifier.notify("loud", "x", {})
        with pytest.raises(TypeError):
            await notifier.info("x", {1})


async def test_a_notification_that_is_put_back_comes_again(face, broker, queue):
    async with face.connect(broker) as client:
        await client.notifier("p", topics=queue).notify("sample", "cpu", 0.5)
        async with client.notification_listener(queue, priorities="sample") as listener:
            first = await listener.get(timeout=30)
            assert not first.redelivered
            first.requeue()
            again = await listener.get(timeout=30)
            assert again.redelivered and again.message_id == first.message_id
            message_id = again.message_id
            # What was dropped unsettled goes back with the listener.
            del first, again
        async with client.notification_listener(queue, priorities="sample") as listener:
            async for notification in listener:
                assert notification.message_id == message_id
                notification.ack()
                break


async def test_each_pool_gets_a_copy(face, broker, queue, unique):
    async with face.connect(broker) as client:
        pools = [unique("pool"), unique("pool")]
        first, second = (client.notification_listener(queue, priorities="info", pool=pool) for pool in pools)
        async with first, second:
            await client.notifier("p", topics=queue).info("e", 1)
            for listener in (first, second):
                notification = await listener.get(timeout=30)
                assert notification.payload == 1
                notification.ack()


async def test_the_end_of_the_client_is_that_of_its_servers_and_listeners(face, broker, queue):
    async with face.connect(broker) as client:
        server = client.rpc_server(queue, "one", [Sums()])
        await server.start()
        listener = client.notification_listener(queue)
        await listener.start()
        await client.close()
        with pytest.raises(mm.ClosedError):
            await listener.get(timeout=30)
        async for _ in listener:
            raise AssertionError("nothing comes any more")
        await server.stop()
        with pytest.raises(mm.ClosedError):
            await client.rpc(queue).call("add", a=1, b=2)
