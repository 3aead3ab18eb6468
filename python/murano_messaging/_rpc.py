"""RPC: ``client.rpc()`` calls the methods of servers, ``client.rpc_server()`` serves them.

The wire format is that of oslo.messaging, whose services may be on the other end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import traceback
from collections.abc import Coroutine, Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Literal, Union

from ._running import _LOOK, _noting_sigterm
from .errors import RemoteError

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._native import AioClient, Client, RpcCaller, RpcJob, RpcService

log = logging.getLogger("murano_messaging.rpc")

_Duration = Union[float, timedelta]


# ---- clients --------------------------------------------------------------------------------------------------------


class _Caller:
    def __init__(self, transport: Any, target: Mapping[str, Any], context: Mapping[str, Any] | None) -> None:
        self._transport = transport
        self._target = dict(target)
        self._context = None if context is None else dict(context)
        self._native: RpcCaller = transport.caller(**target)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._target['topic']!r}>"

    def prepare(self, **changes: Any) -> Self:
        """Make another client with other options, which are those of :meth:`Client.rpc`; ``None`` takes one away.

        >>> client.rpc("tasks", timeout=60).prepare(server="host-1", timeout=5)
        <RpcClient of 'tasks'>
        """
        context = changes.pop("context", self._context)
        return type(self)(self._transport, {**self._target, **changes}, context)

    def can_send_version(self, version: str) -> bool:
        """Say whether a version is within the ``version_cap``.

        >>> client.rpc("tasks", version_cap="1.4").can_send_version("1.5")
        False
        """
        return self._native.can_send_version(version)


class RpcClient(_Caller):
    """Calls the methods of the servers of a topic. :meth:`Client.rpc` makes it."""

    def call(self, method: str, /, **args: Any) -> Any:
        """Call a method and wait for its result.

        Raises ``RemoteError`` if the method raised, or the server does not have it in this version;
        ``OperationTimeoutError`` without an answer within the ``timeout``: whether the method was called is not known
        then; ``InvalidArgumentError`` and ``TypeError`` for what cannot be sent; ``PreconditionFailedError`` for a
        request over the broker's size limit.

        >>> class Sums:
        ...     def add(self, context, a, b):
        ...         return a + b
        >>> with client.rpc_server(queue, "host-1", [Sums()]):
        ...     client.rpc(queue).call("add", a=1, b=2)
        3
        """
        return self._native.call(method, args, self._context)

    def cast(self, method: str, /, **args: Any) -> None:
        """Have a method called, without waiting for that; returns when the broker has the request.

        A server that has not started yet finds it when it starts.
        """
        self._native.cast(method, args, self._context)

    def fanout(self, method: str, /, **args: Any) -> None:
        """Have a method called by every server of the topic that runs now."""
        self._native.cast(method, args, self._context, fanout=True)


class AioRpcClient(_Caller):
    """Calls the methods of the servers of a topic. :meth:`Client.rpc` makes it."""

    def call(self, method: str, /, **args: Any) -> Coroutine[object, None, Any]:
        """Call a method and wait for its result; raises what the blocking client's ``call`` raises."""
        call: Coroutine[object, None, Any] = self._native.call(method, args, self._context)
        return call

    def cast(self, method: str, /, **args: Any) -> Coroutine[object, None, None]:
        """Have a method called, without waiting for that; done when the broker has the request.

        A server that has not started yet finds it when it starts.
        """
        cast: Coroutine[object, None, None] = self._native.cast(method, args, self._context)
        return cast

    def fanout(self, method: str, /, **args: Any) -> Coroutine[object, None, None]:
        """Have a method called by every server of the topic that runs now."""
        cast: Coroutine[object, None, None] = self._native.cast(method, args, self._context, fanout=True)
        return cast


def rpc(
    self: Client,
    topic: str,
    *,
    server: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    version_cap: str | None = None,
    timeout: _Duration | None = None,
    monitor: _Duration | None = None,
    context: Mapping[str, Any] | None = None,
    exchange: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> RpcClient:
    """Prepare calls to the servers of a topic, in the wire format of oslo.messaging. Sends nothing yet.

    * ``server``: one server of the topic. ``namespace``, ``version``: the interface; servers of the same major version
      and of its minor or a later one answer. ``version_cap``: no version above it is sent.
    * ``timeout``: how long a call waits for its result and a cast for the broker, 60 seconds by default.
    * ``monitor``: whole seconds, at least 2: the server says every half of it that it is at work, and a call fails
      when that stays away; its ``timeout`` may be long then.
    * ``context``: a dict that goes with every request.
    * ``exchange``: instead of the ``control_exchange``.
    * ``options``: how queues are declared, with the names of the section ``[oslo_messaging_rabbit]`` (and
      ``control_exchange`` and ``rpc_response_timeout``), for example ``{"rabbit_quorum_queue": True}``. They must be
      those of the peers. The ones of connections have no effect: the connection is the client's.

    Arguments, results and contexts are what JSON has, whole numbers up to 64 bits.

    >>> client.rpc("tasks", version="1.2", timeout=10)
    <RpcClient of 'tasks'>
    """
    target = {
        "topic": topic,
        "server": server,
        "namespace": namespace,
        "version": version,
        "version_cap": version_cap,
        "timeout": timeout,
        "monitor": monitor,
        "exchange": exchange,
    }
    return RpcClient(self._rpc_transport(options), target, context)


def aio_rpc(
    self: AioClient,
    topic: str,
    *,
    server: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    version_cap: str | None = None,
    timeout: _Duration | None = None,
    monitor: _Duration | None = None,
    context: Mapping[str, Any] | None = None,
    exchange: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> AioRpcClient:
    """Prepare calls to the servers of a topic, in the wire format of oslo.messaging. Sends nothing yet.

    The options are those of the blocking client's ``rpc``.
    """
    target = {
        "topic": topic,
        "server": server,
        "namespace": namespace,
        "version": version,
        "version_cap": version_cap,
        "timeout": timeout,
        "monitor": monitor,
        "exchange": exchange,
    }
    return AioRpcClient(self._rpc_transport(options), target, context)


# ---- servers --------------------------------------------------------------------------------------------------------


class Endpoint:
    """Methods under a namespace and a version.

    ``methods`` is an object, of which all public methods are served, or a dict of functions by name. Each is called
    with the context, a dict, and the named arguments. ``legacy_namespaces``: older names that callers may still use;
    ``None`` among them is the default namespace.

    An object that has a ``target`` as endpoints of oslo.messaging do needs no ``Endpoint``.
    """

    def __init__(
        self,
        methods: object,
        *,
        namespace: str | None = None,
        version: str = "1.0",
        legacy_namespaces: Iterable[str | None] = (),
    ) -> None:
        """Look the methods up: those that the object gets later are not served."""
        self._namespaces = [namespace, *legacy_namespaces]
        self._version = version
        self._methods: dict[str, Callable[..., Any]] = {}
        named = methods.items() if isinstance(methods, Mapping) else _public_methods(methods)
        for name, method in named:
            if not callable(method):
                raise TypeError(f"the method {name!r} must be a function, not {type(method).__name__}")
            self._methods[name] = method

    @classmethod
    def _of(cls, given: object) -> Endpoint:
        if isinstance(given, Endpoint):
            return given
        target = getattr(given, "target", None)
        if target is None or isinstance(given, Mapping):
            return cls(given)
        # As endpoints of oslo.messaging say it.
        return cls(
            given,
            namespace=getattr(target, "namespace", None),
            version=getattr(target, "version", None) or "1.0",
            legacy_namespaces=(getattr(target, "accepted_namespaces", None) or [None])[1:],
        )


def _public_methods(given: object) -> list[tuple[str, Any]]:
    names = [name for name in dir(given) if not name.startswith("_")]
    return [(name, value) for name in names if callable(value := getattr(given, name)) and not isinstance(value, type)]


def _fail(job: RpcJob, error: BaseException) -> None:
    """Send an exception to the caller."""
    log.debug("the method %r raised", job.method, exc_info=error)
    kwargs: Any = getattr(error, "kwargs", None)
    if isinstance(error, RemoteError):
        # Of a call that the method made itself: passed on as it came.
        name, module, message = error.class_name, error.module, error.message
        lines = error.traceback
    else:
        name, module, message = type(error).__name__, type(error).__module__, str(error)
        lines = traceback.format_exception(type(error), error, error.__traceback__)
    if not isinstance(kwargs, dict):
        kwargs = {}
    lines = [_sendable(line) for line in lines]
    try:
        job.failed(name, module, _sendable(message), lines, list(error.args), kwargs)
    except (TypeError, ValueError):
        # They are no JSON: their texts say more than nothing.
        args = [_sendable(str(arg)) for arg in error.args]
        job.failed(name, module, _sendable(message), lines, args, {})


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Server:
    def __init__(
        self, client: Any, topic: str, server: str, endpoints: Iterable[object], options: dict[str, Any]
    ) -> None:
        if isinstance(endpoints, (str, Mapping)):
            raise TypeError(f"endpoints must be a list of objects, dicts or Endpoints, not {type(endpoints).__name__}")
        self._endpoints = [Endpoint._of(endpoint) for endpoint in endpoints]
        self._transport = client._rpc_transport(options.pop("options", None))
        self._concurrency: int = options.pop("concurrency", 16)
        self._ack_on = options.pop("ack_on", "dispatch")
        self._target = {"topic": topic, "server": server, **options}
        self._service: RpcService | None = None

    def __repr__(self) -> str:
        state = "" if self._service is not None else " (not running)"
        return f"<{type(self).__name__} {self._target['server']!r} of {self._target['topic']!r}{state}>"

    def _serve(self) -> Any:
        if self._service is not None:
            raise RuntimeError("the server runs already")
        methods = [(point._namespaces, point._version, list(point._methods)) for point in self._endpoints]
        return self._transport.serve(methods, self._concurrency, self._ack_on, **self._target)

    def _call(self, job: RpcJob) -> Any:
        args = job.args
        if not isinstance(args, dict):
            raise TypeError(f"{job.method}() takes named arguments")
        return self._endpoints[job.endpoint]._methods[job.method](job.context, **args)


class RpcServer(_Server):
    """Calls methods of this process as others ask for it. :meth:`Client.rpc_server` makes it.

    A ``with`` block starts it and stops it; :meth:`run` serves until the program is to end.
    """

    _workers: list[threading.Thread]

    def start(self) -> None:
        """Declare the queues and begin to serve, in threads, which are green where ``threading`` is patched."""
        self._service = service = self._serve()
        name = f"murano-messaging-rpc-{self._target['server']}"
        self._workers = [
            threading.Thread(target=self._work, args=(service,), name=name, daemon=True) for _ in range(self._concurrency)
        ]
        for worker in self._workers:
            worker.start()

    def stop(self, timeout: _Duration = 30.0) -> None:
        """Take no more requests, and return when those that were begun have their reply, or after ``timeout``.

        Requests that wait go back to their queues. Stopping again is harmless.
        """
        service, self._service = self._service, None
        if service is not None:
            service.stop(timeout)
            for worker in self._workers:
                if worker is not threading.current_thread():
                    worker.join(0.5)

    def run(self, *, stop: threading.Event | None = None, timeout: _Duration = 30.0) -> None:
        """Serve until the program is to end.

        That is: by SIGTERM (in the main thread, where the program does not handle that itself), when ``stop`` is set,
        when the client is closed, and by Ctrl-C, which is raised then. Requests that were begun have ``timeout`` to come
        to their end.
        """
        with _noting_sigterm() as sigterm_came:
            self.start()
            try:
                while not sigterm_came() and not (stop is not None and stop.is_set()):
                    working = next((worker for worker in self._workers if worker.is_alive()), None)
                    if working is None:
                        break
                    working.join(_LOOK)
            finally:
                self.stop(timeout)

    def _work(self, service: RpcService) -> None:
        while (job := service.next()) is not None:
            try:
                job.done(self._call(job))
            except Exception as error:
                _fail(job, error)
            except BaseException as error:
                _fail(job, error)
                raise

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


class AioRpcServer(_Server):
    """Calls methods of this process as others ask for it. :meth:`Client.rpc_server` makes it.

    An ``async with`` block starts it and stops it; :meth:`run` serves until the program is to end. A method may be a
    coroutine function; one that is not runs in the loop too, and must not wait.
    """

    _server: asyncio.Task[None]

    async def start(self) -> None:
        """Declare the queues and begin to serve, in a task for each request."""
        self._service = service = await self._serve()
        self._server = asyncio.create_task(self._work(service), name="murano-messaging-rpc")

    async def stop(self, timeout: _Duration = 30.0) -> None:
        """Take no more requests, and return when those that were begun have their reply, or after ``timeout``.

        Requests that wait go back to their queues, and what has not ended by then is cancelled. Stopping again is
        harmless.
        """
        service, self._service = self._service, None
        if service is not None:
            await service.stop(timeout)
            await asyncio.wait({self._server})

    async def run(self, *, stop: asyncio.Event | None = None, timeout: _Duration = 30.0) -> None:
        """Serve until the program is to end.

        That is: by SIGTERM (in the main thread, where the program does not handle that itself), when ``stop`` is set,
        when the client is closed, and when the task of this call is cancelled. Requests that were begun have ``timeout``
        to come to their end.
        """
        with _noting_sigterm() as sigterm_came:
            await self.start()
            try:
                while not sigterm_came() and not (stop is not None and stop.is_set()):
                    done, _ = await asyncio.wait({self._server}, timeout=_LOOK)
                    if done:
                        break
            finally:
                await self.stop(timeout)

    async def _work(self, service: RpcService) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            # As many at a time as the concurrency says: the service hands no more out.
            while (job := await service.next()) is not None:
                task = asyncio.create_task(self._answer(job))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _answer(self, job: RpcJob) -> None:
        try:
            result = self._call(job)
            if inspect.isawaitable(result):
                result = await result
            job.done(result)
        except Exception as error:
            _fail(job, error)
        except BaseException as error:
            _fail(job, error)
            raise

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        await self.stop()


def rpc_server(
    self: Client,
    topic: str,
    server: str,
    endpoints: Iterable[object],
    *,
    exchange: str | None = None,
    concurrency: int = 16,
    ack_on: Literal["dispatch", "done"] = "dispatch",
    options: Mapping[str, Any] | None = None,
) -> RpcServer:
    """Prepare a server of a topic, in the wire format of oslo.messaging. It does nothing before it is started.

    Callers reach all servers of a topic together, who share the requests out, or each by its name ``server``.

    * ``endpoints``: objects whose public methods are served, dicts of functions, or ``Endpoint``; of several that take a
      request, the first that has the method is called, with the context (a dict) and the named arguments. Names that
      begin with an underscore are never called. What a method raises is raised at the caller as ``RemoteError`` (by
      oslo.messaging: as the exception itself, if it knows and allows it).
    * ``concurrency``: how many requests are worked on at a time, and how many more wait in this server; the rest is
      left to other servers.
    * ``ack_on``: ``"dispatch"`` acks a request just before its method is called: one that is being called when the
      process dies is not called again. ``"done"`` acks it when the reply was sent: nothing is lost, and a method may
      be called twice.
    * ``exchange``, ``options``: as for ``rpc``.

    >>> with client.rpc_server(queue, "host-1", [{"double": lambda context, x: 2 * x}]):
    ...     client.rpc(queue).call("double", x=[21])
    [21, 21]
    """
    given = {"exchange": exchange, "concurrency": concurrency, "ack_on": ack_on, "options": options}
    return RpcServer(self, topic, server, endpoints, given)


def aio_rpc_server(
    self: AioClient,
    topic: str,
    server: str,
    endpoints: Iterable[object],
    *,
    exchange: str | None = None,
    concurrency: int = 16,
    ack_on: Literal["dispatch", "done"] = "dispatch",
    options: Mapping[str, Any] | None = None,
) -> AioRpcServer:
    """Prepare a server of a topic, in the wire format of oslo.messaging. It does nothing before it is started.

    The options are those of the blocking client's ``rpc_server``. Methods may be coroutine functions.
    """
    given = {"exchange": exchange, "concurrency": concurrency, "ack_on": ack_on, "options": options}
    return AioRpcServer(self, topic, server, endpoints, given)
