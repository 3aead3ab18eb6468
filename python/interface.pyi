# The interface of the native module, each thing once: `scripts/stubs.py` makes the stub and the text signatures of it.
#
# A class with `@faces` is there twice: as it is, and for asyncio with `Aio` before its name, where methods are coroutines.
# `@plain`: not awaited in asyncio either. `@settles`: awaited or not. `@sync`, `@aio`: in one of the two only.
# `**options: Group` are the keyword arguments of the class `Group`.
# ruff: noqa: F821

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from os import PathLike
from types import TracebackType
from typing import Any, ClassVar, Generic, Literal, TypeVar, Union, final

from typing_extensions import Buffer, Self, TypeAlias, deprecated

from ._notifications import AioNotificationListener, AioNotifier, NotificationListener, Notifier
from ._processing import Processing
from ._rpc import AioRpcClient, AioRpcServer, RpcClient, RpcServer
from ._types import QueueDepth, QueueInfo, Recovery, ServerInfo, Stats
from .errors import MessagingError
from .events import Event

_T_co = TypeVar("_T_co", covariant=True)

_Duration: TypeAlias = Union[float, timedelta]
_Value: TypeAlias = Union[
    bool, int, float, Decimal, str, Buffer, datetime, Sequence["_Value"], Mapping[str, "_Value"], None
]
_Table: TypeAlias = Mapping[str, _Value]
_Body: TypeAlias = Union[Buffer, str, dict[str, Any], list[Any]]
_Host: TypeAlias = Union[str, tuple[str, int]]
_Path: TypeAlias = Union[str, PathLike[str]]
_Pem: TypeAlias = Union[str, Buffer]
_Credentials: TypeAlias = tuple[str, str]

_PukaText: TypeAlias = Union[str, bytes]
_PukaCallback: TypeAlias = Callable[[int, Any], object]

class Publish:
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool | None = None
    timeout: _Duration | None = None
    persistent: bool = True
    headers: _Table | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: _Duration | None = None
    message_id: str | None = None
    timestamp: datetime | int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None

class Consume:
    prefetch: int = 100
    no_ack: bool = False
    exclusive: bool = False
    tag: str | None = None
    priority: int | None = None
    stream_offset: str | int | datetime | timedelta | None = None
    resume: bool = False
    on_drop: Literal["keep", "requeue"] = "keep"
    arguments: _Table | None = None
    timeout: _Duration | None = None

class DeclareQueue:
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    expires: _Duration | None = None
    message_ttl: _Duration | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: Literal["drop-head", "reject-publish", "reject-publish-dlx"] | None = None
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    max_priority: int | None = None
    type: Literal["classic", "quorum", "stream"] | None = None
    delivery_limit: int | None = None
    single_active_consumer: bool = False
    max_age: _Duration | None = None
    arguments: _Table | None = None
    timeout: _Duration | None = None

class DeclareExchange:
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    alternate_exchange: str | None = None
    arguments: _Table | None = None
    timeout: _Duration | None = None

class Connect:
    hosts: _Host | Iterable[_Host] | None = None
    username: str | None = None
    password: str | None = None
    credentials: Callable[[], _Credentials] | None = None
    vhost: str | None = None
    mechanism: Literal["plain", "amqplain", "external"] | None = None
    tls: bool | None = None
    ca_file: _Path | None = None
    ca_pem: _Pem | None = None
    cert_file: _Path | None = None
    cert_pem: _Pem | None = None
    key_file: _Path | None = None
    key_pem: _Pem | None = None
    key_password: str | None = None
    insecure: bool | None = None
    server_name: str | None = None
    sni: bool | None = None
    verify_hostname: bool | None = None
    pinned: bool | None = None
    system_roots: bool | None = None
    connection_name: str | None = None
    client_properties: _Table | None = None
    heartbeat: _Duration | None = None
    frame_max: int | None = None
    channel_max: int | None = None
    connect_timeout: _Duration | None = None
    timeout: _Duration | None = None
    window_messages: int | None = None
    window_bytes: int | None = None
    mandatory: bool | None = None
    delivery_buffer: int | None = None
    max_body_size: int | None = None
    discard_oversize: bool | None = None
    recovery: Recovery | bool | None = None
    retry_initial: bool | None = None
    separate_publish_connection: bool | None = None
    short_lived: bool | None = None
    seed: int | None = None

class Operation(Generic[_T_co], Coroutine[Any, None, _T_co]):
    @classmethod
    def __class_getitem__(cls, item: Any) -> Any: ...
    def send(self, value: None) -> Any: ...
    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any: ...
    def close(self) -> None: ...
    def __await__(self) -> Generator[Any, None, _T_co]: ...
    def __iter__(self) -> Generator[Any, None, _T_co]: ...
    def __next__(self) -> Any: ...

@final
class AioConnecting(Operation[AioClient]):
    def __aenter__(self) -> Self: ...
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Coroutine[object, None, None]: ...

@faces
class Client:
    def publish(self, body: _Body, **options: Publish) -> None: ...
    def publish_nowait(self, body: _Body, **options: Publish) -> Confirmation: ...
    def request(self, body: _Body, **options: Publish) -> Delivery: ...
    @plain
    def consume(self, queue: str, **options: Consume) -> Consumer: ...
    def get(self, queue: str, *, no_ack: bool = False, timeout: _Duration | None = None) -> Delivery | None: ...
    def declare_queue(self, name: str = "", **options: DeclareQueue) -> QueueInfo: ...
    def queue_info(self, name: str, *, timeout: _Duration | None = None) -> QueueInfo: ...
    def delete_queue(
        self, name: str, *, if_unused: bool = False, if_empty: bool = False, timeout: _Duration | None = None
    ) -> int: ...
    def purge_queue(self, name: str, *, timeout: _Duration | None = None) -> int: ...
    def declare_exchange(self, name: str, type: str = "direct", **options: DeclareExchange) -> None: ...
    def check_exchange(self, name: str, *, timeout: _Duration | None = None) -> None: ...
    def delete_exchange(self, name: str, *, if_unused: bool = False, timeout: _Duration | None = None) -> None: ...
    def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: _Table | None = None,
        timeout: _Duration | None = None,
    ) -> None: ...
    def unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        *,
        arguments: _Table | None = None,
        timeout: _Duration | None = None,
    ) -> None: ...
    def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: _Table | None = None,
        timeout: _Duration | None = None,
    ) -> None: ...
    def unbind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        *,
        arguments: _Table | None = None,
        timeout: _Duration | None = None,
    ) -> None: ...
    @plain
    def forget(self, name: str) -> None: ...
    @plain
    def events(self) -> Events: ...
    @plain
    def stats(self) -> Stats: ...
    @plain
    def server(self) -> ServerInfo | None: ...
    @property
    def connected(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def blocked(self) -> bool: ...
    @property
    def vhost(self) -> str: ...
    def update_secret(self, secret: str, reason: str = "", *, timeout: _Duration | None = None) -> None: ...
    def close(self, timeout: _Duration | None = None, *, raise_failed: bool = False) -> None: ...
    def drain(self, timeout: _Duration | None = None, *, raise_failed: bool = False) -> None: ...
    @sync
    def run(
        self,
        queue: str,
        handler: Callable[[Delivery], object],
        *,
        concurrency: int = 1,
        requeue: bool = False,
        prefetch: int | None = None,
        stop: threading.Event | None = None,
        drain_timeout: float = 30.0,
        **options: Any,
    ) -> None: ...
    @aio
    def run(
        self,
        queue: str,
        handler: Callable[[Delivery], object],
        *,
        concurrency: int = 1,
        requeue: bool = False,
        prefetch: int | None = None,
        stop: asyncio.Event | None = None,
        drain_timeout: float = 30.0,
        **options: Any,
    ) -> None: ...
    @plain
    @sync
    def rpc(
        self,
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
    ) -> RpcClient: ...
    @plain
    @aio
    def rpc(
        self,
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
    ) -> AioRpcClient: ...
    @plain
    @sync
    def rpc_server(
        self,
        topic: str,
        server: str,
        endpoints: Iterable[object],
        *,
        exchange: str | None = None,
        concurrency: int = 16,
        ack_on: Literal["dispatch", "done"] = "dispatch",
        options: Mapping[str, Any] | None = None,
    ) -> RpcServer: ...
    @plain
    @aio
    def rpc_server(
        self,
        topic: str,
        server: str,
        endpoints: Iterable[object],
        *,
        exchange: str | None = None,
        concurrency: int = 16,
        ack_on: Literal["dispatch", "done"] = "dispatch",
        options: Mapping[str, Any] | None = None,
    ) -> AioRpcServer: ...
    @plain
    @sync
    def notifier(
        self,
        publisher_id: str,
        *,
        topics: str | Iterable[str] = "notifications",
        exchange: str | None = None,
        envelope: bool = True,
        timeout: _Duration | None = None,
        context: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Notifier: ...
    @plain
    @aio
    def notifier(
        self,
        publisher_id: str,
        *,
        topics: str | Iterable[str] = "notifications",
        exchange: str | None = None,
        envelope: bool = True,
        timeout: _Duration | None = None,
        context: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AioNotifier: ...
    @plain
    @sync
    def notification_listener(
        self,
        topics: str | Iterable[str] = "notifications",
        *,
        priorities: str | Iterable[str] | None = None,
        exchange: str | None = None,
        pool: str | None = None,
        prefetch: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> NotificationListener: ...
    @plain
    @aio
    def notification_listener(
        self,
        topics: str | Iterable[str] = "notifications",
        *,
        priorities: str | Iterable[str] | None = None,
        exchange: str | None = None,
        pool: str | None = None,
        prefetch: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AioNotificationListener: ...
    @plain
    def _rpc_transport(self, options: Mapping[str, Any] | None = None) -> RpcTransport: ...
    @plain
    @sync
    def on_event(self, callback: Callable[[Event], object]) -> None: ...
    @plain
    @aio
    def on_event(self, callback: Callable[[Event], object | Awaitable[object]]) -> None: ...
    @sync
    def __enter__(self) -> Self: ...
    @aio
    def __aenter__(self) -> Self: ...
    @sync
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    @aio
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@faces
class Confirmation:
    @plain
    def done(self) -> bool: ...
    def result(self, timeout: _Duration | None = None) -> None: ...
    def exception(self, timeout: _Duration | None = None) -> MessagingError | None: ...
    @plain
    def cancel(self) -> bool: ...
    @deprecated("it is called result")
    def wait(self, timeout: _Duration | None = None) -> None: ...
    @plain
    @deprecated("it is called exception, and waits")
    def error(self) -> MessagingError | None: ...
    @plain
    @aio
    def __await__(self) -> Generator[Any]: ...

@faces
class Consumer:
    def get(self, timeout: _Duration | None = None) -> Delivery | None: ...
    def get_many(self, n: int, timeout: _Duration | None = None) -> list[Delivery]: ...
    def cancel(self, *, timeout: _Duration | None = None) -> None: ...
    def set_prefetch(self, messages: int, *, timeout: _Duration | None = None) -> None: ...
    def recover(self, requeue: bool = True, *, timeout: _Duration | None = None) -> None: ...
    @property
    def queue(self) -> str: ...
    @property
    def tag(self) -> str | None: ...
    @property
    def delivered(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @plain
    @sync
    def __iter__(self) -> Self: ...
    @plain
    @sync
    def __next__(self) -> Delivery: ...
    @sync
    def __enter__(self) -> Self: ...
    @plain
    @aio
    def __await__(self) -> Generator[Any, None, Self]: ...
    @plain
    @aio
    def __aiter__(self) -> Self: ...
    @aio
    def __anext__(self) -> Delivery: ...
    @aio
    def __aenter__(self) -> Self: ...
    @sync
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    @aio
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@faces
class Delivery:
    @property
    def body(self) -> bytes: ...
    @property
    def properties(self) -> dict[str, Any]: ...
    @property
    def headers(self) -> dict[str, Any]: ...
    @property
    def headers_error(self) -> str | None: ...
    @property
    def raw_headers(self) -> bytes | None: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def content_encoding(self) -> str | None: ...
    @property
    def correlation_id(self) -> str | None: ...
    @property
    def reply_to(self) -> str | None: ...
    @property
    def message_id(self) -> str | None: ...
    @property
    def type(self) -> str | None: ...
    @property
    @deprecated("it is called type")
    def kind(self) -> str | None: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def app_id(self) -> str | None: ...
    @property
    def cluster_id(self) -> str | None: ...
    @property
    def persistent(self) -> bool: ...
    @property
    def priority(self) -> int | None: ...
    @property
    def expiration(self) -> float | None: ...
    @property
    def timestamp(self) -> datetime | int | None: ...
    @property
    def exchange(self) -> str: ...
    @property
    def routing_key(self) -> str: ...
    @property
    def consumer_tag(self) -> str: ...
    @property
    def delivery_tag(self) -> int: ...
    @property
    def redelivered(self) -> bool: ...
    @property
    def message_count(self) -> int | None: ...
    @property
    def stale(self) -> bool: ...
    @plain
    def text(self) -> str: ...
    @plain
    def json(self) -> Any: ...
    def retry(self, delay: _Duration, limit: int = 10, queue: str | None = None) -> bool: ...
    @plain
    def process(self, *, requeue: bool = False) -> Processing[Self]: ...
    @settles
    def ack(self) -> None: ...
    @settles
    def nack(self, requeue: bool = True) -> None: ...
    @settles
    def reject(self) -> None: ...
    @settles
    def requeue(self) -> None: ...

@faces
class Events:
    def get(self, timeout: _Duration | None = None) -> Event | None: ...
    @plain
    @sync
    def __iter__(self) -> Self: ...
    @plain
    @sync
    def __next__(self) -> Event: ...
    @plain
    @aio
    def __aiter__(self) -> Self: ...
    @aio
    def __anext__(self) -> Event: ...

@final
class Notification:
    @property
    def event_type(self) -> str: ...
    @property
    def publisher_id(self) -> str: ...
    @property
    def priority(self) -> str | None: ...
    @property
    def message_id(self) -> str: ...
    @property
    def timestamp(self) -> str: ...
    @property
    def context(self) -> dict[str, Any]: ...
    @property
    def payload(self) -> Any: ...
    @property
    def redelivered(self) -> bool: ...
    def ack(self) -> None: ...
    def requeue(self) -> None: ...

def connect(uri: str | None = None, **options: Connect) -> Client: ...
def aio_connect(uri: str | None = None, **options: Connect) -> AioConnecting: ...
def wait_all(confirmations: Iterable[Confirmation], timeout: _Duration | None = None) -> None: ...
def aio_wait_all(
    confirmations: Iterable[AioConfirmation], timeout: _Duration | None = None
) -> Coroutine[object, None, None]: ...

__version__: str

@final
class Broker:
    def __new__(cls, name: str | None = None) -> Self: ...
    @property
    def uri(self) -> str: ...
    def listen(self, host: str = "127.0.0.1", port: int = 0) -> str: ...
    def forget(self) -> None: ...
    def queue_depth(self, queue: str) -> QueueDepth | None: ...
    def connections(self) -> int: ...
    def add_user(self, name: str, password: str) -> None: ...
    def remove_user(self, name: str) -> None: ...
    def external_user(self, name: str | None) -> None: ...
    def add_vhost(self, name: str) -> None: ...
    def max_message_size(self, bytes: int) -> None: ...
    def close_connections(self, code: int = 320, text: str = "CONNECTION_FORCED - closed by a test") -> None: ...
    def drop_connections(self) -> None: ...
    def block(self, reason: str = "low on memory") -> None: ...
    def unblock(self) -> None: ...
    def stall(self, stalled: bool = True) -> None: ...
    def restart(self) -> None: ...
    def refuse_logins(self, refuse: bool = True) -> None: ...
    def refuse_connections(self, refuse: bool = True) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_error: object) -> None: ...

# What the package itself uses.

@final
class Completions:
    LONG: ClassVar[float]
    def __new__(cls) -> Self: ...
    @property
    def inherited(self) -> bool: ...
    def fileno(self) -> int: ...
    def register(self, number: int, waiter: object) -> None: ...
    def forget(self, number: int) -> None: ...
    def begin(self) -> None: ...
    def next(self) -> Any | None: ...
    def look_after_waiting(self) -> bool: ...
    def _look_after(self, event_loop: object) -> None: ...
    def __call__(self) -> None: ...

class PukaBase:
    def _configure(self, body_type: type | None, green: bool) -> None: ...
    @property
    def _server_properties(self) -> dict[str, Any] | None: ...
    def wait(
        self, promise_numbers: int | Iterable[int], timeout: float | None = None, raise_errors: object = True
    ) -> Any: ...
    def wait_for_all(self, promise_list: Iterable[int], raise_errors: object = True) -> None: ...
    def wait_for_any(self) -> None: ...
    def loop(self, timeout: float | None = None) -> None: ...
    def loop_break(self) -> None: ...
    def run_any_callbacks(self) -> None: ...
    def set_callback(self, promise_number: int, callback: _PukaCallback | None) -> None: ...
    def fileno(self) -> int: ...
    def on_read(self) -> None: ...
    def needs_write(self) -> bool: ...
    def _unsent(self) -> int: ...
    def on_write(self) -> None: ...

class PukaTopology(PukaBase):
    def exchange_declare(
        self,
        exchange: _PukaText,
        type: _PukaText = "direct",
        durable: object = False,
        auto_delete: object = False,
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def exchange_delete(
        self, exchange: _PukaText, if_unused: object = False, *, callback: _PukaCallback | None = None
    ) -> int: ...
    def exchange_bind(
        self,
        destination: _PukaText,
        source: _PukaText,
        routing_key: _PukaText = "",
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def exchange_unbind(
        self,
        destination: _PukaText,
        source: _PukaText,
        routing_key: _PukaText = "",
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def queue_declare(
        self,
        queue: _PukaText = "",
        durable: object = False,
        exclusive: object = False,
        auto_delete: object = False,
        passive: object = False,
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def queue_delete(
        self,
        queue: _PukaText,
        if_unused: object = False,
        if_empty: object = False,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def queue_purge(self, queue: _PukaText, *, callback: _PukaCallback | None = None) -> int: ...
    def queue_bind(
        self,
        queue: _PukaText,
        exchange: _PukaText,
        routing_key: _PukaText = "",
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def queue_unbind(
        self,
        queue: _PukaText,
        exchange: _PukaText,
        routing_key: _PukaText = "",
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...

class PukaClient(PukaTopology):
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _connect(self, given: dict[str, Any]) -> int: ...
    def close(self, *, callback: _PukaCallback | None = None) -> int: ...
    def basic_publish(
        self,
        exchange: _PukaText,
        routing_key: _PukaText = "",
        mandatory: object = False,
        headers: dict[str, Any] | None = None,
        body: str | bytes = "",
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def basic_get(self, queue: _PukaText, no_ack: object = False, *, callback: _PukaCallback | None = None) -> int: ...
    def basic_consume(
        self,
        queue: _PukaText,
        prefetch_count: int = 0,
        no_local: object = False,
        no_ack: object = False,
        exclusive: object = False,
        arguments: dict[str, Any] | None = None,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def basic_consume_multi(
        self,
        queues: Iterable[str | dict[str, Any]],
        prefetch_count: int = 0,
        no_ack: object = False,
        *,
        callback: _PukaCallback | None = None,
    ) -> int: ...
    def basic_qos(
        self, consume_promise: int, prefetch_count: int = 0, *, callback: _PukaCallback | None = None
    ) -> int: ...
    def basic_cancel(self, consume_promise: int, *, callback: _PukaCallback | None = None) -> int: ...
    def basic_ack(self, msg_result: Mapping[str, Any]) -> None: ...
    def basic_reject(self, msg_result: Mapping[str, Any], requeue: object = True) -> None: ...

# These wait, or return something to await, as their client does.

@final
class RpcTransport:
    def caller(self, **options: Any) -> RpcCaller: ...
    def serve(
        self,
        endpoints: list[tuple[list[str | None], str, list[str]]],
        concurrency: int,
        ack_on: str,
        **options: Any,
    ) -> Any: ...
    def notifier(self, publisher_id: str, **options: Any) -> NotificationSender: ...
    def listen(self, topics: str | Iterable[str], **options: Any) -> Any: ...

@final
class RpcCaller:
    def call(self, method: str, args: dict[str, Any], context: dict[str, Any] | None) -> Any: ...
    def cast(self, method: str, args: dict[str, Any], context: dict[str, Any] | None, fanout: bool = False) -> Any: ...
    def can_send_version(self, version: str) -> bool: ...

@final
class RpcService:
    def next(self) -> Any: ...
    def stop(self, timeout: _Duration) -> Any: ...

@final
class RpcJob:
    @property
    def endpoint(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def context(self) -> dict[str, Any]: ...
    @property
    def args(self) -> Any: ...
    def done(self, result: Any) -> None: ...
    def failed(
        self,
        class_name: str,
        module: str,
        message: str,
        traceback: list[str],
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> None: ...

@final
class NotificationSender:
    def notify(self, priority_name: str, event_type: str, payload: Any, context: Mapping[str, Any] | None) -> Any: ...

@final
class NotificationSource:
    def next(self, timeout: _Duration | None) -> Any: ...
    def stop(self) -> Any: ...

@final
class Reply:
    def answer(self, username: str, password: str) -> None: ...
    def fail(self, reason: str) -> None: ...

@final
class Heard:
    def __call__(self, event: Event) -> Any: ...

def new_server(in_hub: bool) -> int | None: ...
def end_server(server: int) -> None: ...
def next_job(server: int) -> tuple[Any, ...]: ...
def in_main_thread() -> bool: ...
def set_log_level(level: int) -> None: ...
def log_level_is_old() -> bool: ...
def pending_job() -> tuple[Any, ...] | None: ...
def pause(seconds: float) -> None: ...
def _examine(on_check: Callable[[str], object], queue: str, uri: str, **options: Any) -> None: ...
def _at_exit() -> None: ...
def _after_fork_in_child() -> None: ...
def _driven_waits() -> int: ...
