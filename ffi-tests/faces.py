"""The faces of the client behind one interface, so that a contract test is written once, with ``await``.

The blocking faces do each call at once and hand its result to the ``await`` that follows.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any, Callable

import murano_messaging as mm
from murano_messaging import aio

# What is not awaited in asyncio either.
PLAIN: dict[type, set[str]] = {
    mm.Client: {
        *("stats", "server", "forget", "events", "on_event"),
        *("rpc", "rpc_server", "notifier", "notification_listener"),
    },
    mm.Confirmation: {"cancel", "done"},
    mm.Delivery: {"json", "text"},
    mm.Consumer: set(),
    mm.Events: set(),
    mm.RpcClient: {"prepare", "can_send_version"},
    mm.RpcServer: set(),
    mm.Notifier: set(),
    mm.NotificationListener: set(),
}


class Blocking:
    """A blocking object that can be used like its asyncio counterpart."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        if not callable(value):
            return value
        if name in PLAIN[type(self.target)]:
            return lambda *args, **kwargs: wrap(value(*args, **kwargs))
        return lambda *args, **kwargs: Answer(wrap(value(*args, **kwargs)))

    def __await__(self) -> Any:
        # Only confirmations are awaited themselves.
        self.target.result()
        return
        yield

    async def __aenter__(self) -> Blocking:
        self.target.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.target.__exit__(*error)

    def __aiter__(self) -> Blocking:
        return self

    async def __anext__(self) -> Any:
        try:
            return wrap(next(self.target))
        except StopIteration:
            raise StopAsyncIteration from None


class Answer:
    """The result of a call that was done at once."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        return self.value
        yield

    async def __aenter__(self) -> Any:
        self.value.target.__enter__()
        return self.value

    async def __aexit__(self, *error: Any) -> None:
        self.value.target.__exit__(*error)

    def __aiter__(self) -> Any:
        return self.value.__aiter__()


def wrap(value: Any) -> Any:
    if type(value) in PLAIN:
        return Blocking(value)
    if isinstance(value, list):
        return [wrap(item) for item in value]
    return value


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a blocking face waited")


class Sync:
    """Threads that block."""

    name = "sync"

    def connect(self, *args: Any, **options: Any) -> Answer:
        return Answer(wrap(mm.connect(*args, **options)))

    def wait_all(self, confirmations: list[Blocking], timeout: Any = None) -> Answer:
        return Answer(mm.wait_all([confirmation.target for confirmation in confirmations], timeout))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return drive(coroutine)

    def pause(self) -> Answer:
        """Let others run."""
        return Answer(time.sleep(0.01))

    def together(self, *functions: Callable[[], Coroutine[Any, Any, Any]]) -> Answer:
        results: dict[int, Any] = {}
        errors: list[BaseException] = []

        def work(index: int) -> None:
            try:
                results[index] = drive(functions[index]())
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(functions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return Answer([results[index] for index in range(len(functions))])


class Green(Sync):
    """Green threads; the process is monkey-patched by then, so that ``threading`` makes them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        (result,) = drive_answer(self.together(lambda: coroutine))
        return result


def drive_answer(answer: Answer) -> Any:
    return answer.value


class Asyncio:
    """asyncio, on its own loop or on uvloop's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def connect(self, *args: Any, **options: Any) -> Any:
        return aio.connect(*args, **options)

    def wait_all(self, confirmations: list[Any], timeout: Any = None) -> Any:
        return aio.wait_all(confirmations, timeout)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self.name == "uvloop":
            import uvloop

            loop = uvloop.new_event_loop()
        else:
            loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(coroutine)
        finally:
            pending = asyncio.all_tasks(loop)
            loop.close()
            assert not pending, f"tasks are left: {pending}"

    def pause(self) -> Any:
        return asyncio.sleep(0.01)

    async def together(self, *functions: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await asyncio.gather(*(function() for function in functions))


def make(name: str) -> Any:
    if name == "sync":
        return Sync()
    if name in ("eventlet", "gevent"):
        return Green(name)
    return Asyncio(name)
