"""The driver that the entry point ``murano`` names."""

from __future__ import annotations

import logging
import os
import threading
import uuid
import weakref
from typing import Any, Optional

from oslo_messaging._drivers import amqp, amqpdriver, base, common

from . import connection as connections
from . import publishing
from .body import encode
from .incoming import NotificationIncoming, RpcIncoming
from .late import LateReplies
from .listener import Listener, Source
from .options import Settings, connect_options, proxies, register
from .patience import Patience
from .replies import Call, Replies
from .topology import Destination, Topology

LOG = logging.getLogger(__name__)


class _State:
    """What a driver has in one process."""

    def __init__(self, driver: MuranoDriver) -> None:
        self.pid = os.getpid()
        self.settings = Settings.read(driver.conf, driver.murano_conf)
        self.key = connect_options(driver.conf, driver.murano_conf, driver.url)
        self.topology = Topology(self.settings)
        self.connection = connections.acquire(self.key)
        self.replies: Optional[Replies] = None
        self.starting_replies = threading.Lock()
        self.listeners: list[Listener] = []


_drivers: weakref.WeakSet[MuranoDriver] = weakref.WeakSet()


def _after_fork() -> None:
    for driver in list(_drivers):
        driver._renew_lock()


os.register_at_fork(after_in_child=_after_fork)


class MuranoDriver(base.BaseDriver):  # type: ignore[misc]
    """RPC and notifications over one pair of connections for all threads of a process."""

    def __init__(
        self,
        conf: Any,
        url: Any,
        default_exchange: Optional[str] = None,
        allowed_remote_exmods: Optional[list[str]] = None,
    ) -> None:
        """Register the options; nothing is connected before something is sent or listened for."""
        register(conf)
        rabbit_conf, self.murano_conf = proxies(conf, url)
        super().__init__(rabbit_conf, url, default_exchange, allowed_remote_exmods)
        self.url = url
        # Replies to callers that are gone are not tried for a while.
        self.gone_queues = amqpdriver.ObsoleteReplyQueuesCache()
        self.late_replies = LateReplies()
        self._lock = threading.Lock()
        self._state: Optional[_State] = None
        self._pid = os.getpid()
        _drivers.add(self)

    def _renew_lock(self) -> None:
        """Have another lock: one that a thread held when the process was forked is never released in the child."""
        self._pid, self._lock = os.getpid(), threading.Lock()
        self.late_replies = LateReplies()

    def require_features(self, requeue: bool = True) -> None:
        """Accept: everything is supported."""

    # ---- what a process has --------------------------------------------------------------------------------------

    @property
    def state(self) -> _State:
        """What this process has: a forked child does not touch what its parent has."""
        state = self._state
        if state is not None and state.pid == os.getpid():
            return state
        if self._pid != os.getpid():
            self._renew_lock()
        with self._lock:
            if self._state is None or self._state.pid != os.getpid():
                self._state = _State(self)
            return self._state

    def forget_listener(self, listener: Listener) -> None:
        """Note that a listener is done with its queues."""
        state = self._state
        if state is not None and listener in state.listeners:
            state.listeners.remove(listener)

    def _replies(self, state: _State, patience: Patience) -> Replies:
        if state.replies is None:
            # Connected before the lock is taken: waiting for the broker ends at each caller's own time.
            state.connection.client(patience)
            with state.starting_replies:
                if state.replies is None:
                    state.replies = Replies(state.connection, state.topology.replies(), patience)
        return state.replies

    def _exchange(self, target: Any) -> str:
        return str(target.exchange or self._default_exchange)

    # ---- sending -------------------------------------------------------------------------------------------------

    def send(
        self,
        target: Any,
        ctxt: Any,
        message: dict[str, Any],
        wait_for_reply: Optional[bool] = None,
        timeout: Optional[float] = None,
        call_monitor_timeout: Optional[int] = None,
        retry: Optional[int] = None,
        transport_options: Any = None,
    ) -> Any:
        """Send a request: a cast returns when the broker has it, a call when its reply is there."""
        state = self.state
        settings = state.settings
        what = f"{message.get('method')} of {target.topic}" + (f".{target.server}" if target.server else "")
        patience = Patience(what, timeout, retry, settings.retry_intervals)
        if not wait_for_reply:
            self._send(state, target, self._pack(message, ctxt), patience, timeout, transport_options)
            return None
        replies = self._replies(state, patience)
        msg_id = uuid.uuid4().hex
        message.update({"_msg_id": msg_id, "_reply_q": replies.queue, "_timeout": call_monitor_timeout})
        with replies.expect(msg_id) as call:
            self._send(state, target, self._pack(message, ctxt), patience, timeout, transport_options, call)
            return call.result(patience, call_monitor_timeout, self._rebuild)

    def _pack(self, message: dict[str, Any], ctxt: Any) -> dict[str, Any]:
        message[amqp.UNIQUE_ID] = uuid.uuid4().hex
        amqp.pack_context(message, ctxt)
        return message

    def _rebuild(self, failure: Any) -> Exception:
        raised: Exception = common.deserialize_remote_exception(failure, self._allowed_remote_exmods)
        return raised

    def _send(
        self,
        state: _State,
        target: Any,
        fields: dict[str, Any],
        patience: Patience,
        timeout: Optional[float],
        transport_options: Any,
        call: Optional[Call] = None,
    ) -> None:
        message = encode(fields, state.settings.compression)
        if target.fanout:
            publishing.to_all(state.connection, state.topology.fanout_exchange(target.topic), message, patience)
            return
        if timeout is not None:
            # Nobody waits for it after that.
            message.properties["expiration"] = timeout
        destination = state.topology.topic(self._exchange(target), target.topic, target.server, transport_options)
        publishing.to_destination(
            state.connection,
            destination,
            message,
            patience,
            at_least_once=bool(transport_options and transport_options.at_least_once),
            # A call waits for its server by itself, and its queue would stay behind.
            declare_missing=call is None and state.settings.declare_missing,
            call=call,
        )

    def send_notification(
        self, target: Any, ctxt: Any, message: dict[str, Any], version: float, retry: Optional[int] = None
    ) -> None:
        """Send a notification; returns when the broker has it. ``target.topic`` ends with its priority."""
        state = self.state
        patience = Patience(f"a notification to {target.topic}", None, retry, state.settings.retry_intervals)
        body = encode(self._pack(message, ctxt), state.settings.compression, envelope=version == 2.0)
        destination = state.topology.notifications(self._exchange(target), target.topic)
        publishing.to_destination(
            state.connection, destination, body, patience, declare_missing=True, declare_before=True
        )

    # ---- listening -----------------------------------------------------------------------------------------------

    def listen(self, target: Any, batch_size: int, batch_timeout: Optional[float]) -> Listener:
        """Declare the queues of a server: its topic's, its own, and that for fanout casts."""
        state = self.state
        exchange, topology = self._exchange(target), state.topology
        fanout = topology.fanout(target.topic)
        sources = [
            _source(topology.topic(exchange, target.topic)),
            _source(topology.topic(exchange, target.topic, target.server)),
            Source(fanout.queue.name, [fanout], own=not fanout.queue.stream and not topology.has_stable_names),
        ]
        return self._listen(state, sources, RpcIncoming, state.settings.ack_on, batch_size, batch_timeout)

    def listen_for_notifications(
        self,
        targets_and_priorities: Any,
        pool: Optional[str],
        batch_size: int,
        batch_timeout: Optional[float],
    ) -> Listener:
        """Declare the queues of a listener: one for each topic and priority, or one for a pool."""
        state = self.state
        sources: dict[str, Source] = {}
        for target, priority in targets_and_priorities:
            destination = state.topology.notifications(self._exchange(target), f"{target.topic}.{priority}", pool)
            name = destination.queue.name
            sources.setdefault(name, Source(name, [])).destinations.append(destination)
        return self._listen(
            state, list(sources.values()), NotificationIncoming, "notification", batch_size, batch_timeout
        )

    def _listen(
        self,
        state: _State,
        sources: list[Source],
        incoming: Any,
        ack_on: str,
        batch_size: int,
        batch_timeout: Optional[float],
    ) -> Listener:
        listener = Listener(self, state.connection, state.settings, sources, incoming, ack_on, batch_size, batch_timeout)
        state.listeners.append(listener)
        return listener

    def cleanup(self) -> None:
        """Stop everything, and close the connections if no other transport uses them."""
        with self._lock:
            state, self._state = self._state, None
        if state is None or state.pid != os.getpid():
            return
        for listener in list(state.listeners):
            listener.cleanup()
        if state.replies is not None:
            state.replies.stop(delete=not state.topology.has_stable_names)
        connections.release(state.key, state.connection)


def _source(destination: Destination) -> Source:
    return Source(destination.queue.name, [destination])
