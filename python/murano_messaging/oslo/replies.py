"""The queue that replies come to, and the calls that wait for them."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from typing import Any, Callable, Optional

import oslo_messaging
from oslo_messaging._drivers import common

import murano_messaging as mm

from .body import decode
from .connection import Connection
from .declaring import declare_queue
from .patience import OPERATION, Patience
from .topology import Queue

LOG = logging.getLogger(__name__)

#: How many replies are taken at a time.
BATCH = 64

#: The pause between two attempts at a queue that cannot be consumed, in seconds.
PAUSE = 0.25


class Replies:
    """The reply queue of a driver; one thread hands its replies to the calls."""

    def __init__(self, connection: Connection, reply_queue: Queue, patience: Patience) -> None:
        """Declare the queue and begin to consume it."""
        self.queue = reply_queue.name
        self._connection = connection
        self._declared = reply_queue
        self._calls: dict[str, Any] = {}
        self._stopping = False
        self._consumer = self._consume(patience)
        self._thread = threading.Thread(target=self._run, name="murano-replies", daemon=True)
        self._thread.start()

    def expect(self, msg_id: str) -> Call:
        """Wait for the replies to a request from now on; a context manager."""
        return Call(self._calls, msg_id)

    def stop(self, delete: bool) -> None:
        """End consuming; delete the queue unless the next process of this service has it too."""
        self._stopping = True
        try:
            self._consumer.cancel(timeout=OPERATION if self._connection.is_up() else 0.1)
            if delete:
                self._connection.client(Patience("", 1.0)).delete_queue(self.queue, timeout=5)
        except (mm.MessagingError, oslo_messaging.MessagingException) as error:
            # It expires by itself too.
            LOG.debug("The reply queue %s was not deleted: %s", self.queue, error)

    def _consume(self, patience: Patience) -> mm.Consumer:
        client = self._connection.client(patience)
        while True:
            try:
                declare_queue(self._connection, client, self._declared, patience.operation())
                return client.consume(self.queue, prefetch=0, timeout=patience.operation())
            except mm.MessagingError as error:
                if patience.left_away() <= 0:
                    raise patience.ended(error) from error
                LOG.debug("The reply queue %s cannot be consumed yet: %s", self.queue, error)
                time.sleep(PAUSE * (0.5 + random.random()))
                client = self._connection.client(patience)

    def _run(self) -> None:
        while not self._stopping:
            try:
                for delivery in self._consumer.get_many(BATCH):
                    # What is lost after this is lost with its caller.
                    delivery.ack()
                    self._hand_over(delivery)
            except mm.MessagingError as error:
                if self._stopping or isinstance(error, mm.ForkedError):
                    return
                # Requests in flight have its name with them.
                LOG.warning("The reply queue %s is made again: %s", self.queue, error)
                try:
                    self._consumer = self._consume(Patience("replies"))
                except Exception:
                    if not self._stopping:
                        LOG.exception("The reply queue %s cannot be consumed", self.queue)
                        time.sleep(PAUSE)
            except Exception:
                LOG.exception("A reply could not be handed over")

    def _hand_over(self, delivery: mm.Delivery) -> None:
        try:
            fields = decode(delivery)
        except (ValueError, common.RPCException) as error:
            LOG.warning("A reply that cannot be read is dropped: %s", error)
            return
        call = self._calls.get(fields.get("_msg_id", ""))
        if call is None:
            LOG.info("A reply to message %s, for which nobody waits any more", fields.get("_msg_id"))
        else:
            call.put(fields)


class Call:
    """A call that waits for its reply."""

    def __init__(self, calls: dict[str, Any], msg_id: str) -> None:
        """Wait from now on."""
        self._calls = calls
        self._msg_id = msg_id
        self._replies: Any = queue.SimpleQueue()
        self._first: Optional[dict[str, Any]] = None
        calls[msg_id] = self._replies

    def __enter__(self) -> Call:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait no more."""
        self._calls.pop(self._msg_id, None)

    def is_answered(self, seconds: float) -> bool:
        """Whether a reply has come, or comes within so long."""
        if self._first is None:
            try:
                self._first = self._replies.get(timeout=seconds)
            except queue.Empty:
                return False
        return True

    def _next(self, seconds: float) -> dict[str, Any]:
        first, self._first = self._first, None
        fields: dict[str, Any] = self._replies.get(timeout=seconds) if first is None else first
        return fields

    def result(self, patience: Patience, monitor: Optional[int], rebuild: Callable[[Any], Exception]) -> Any:
        """Return the result, or raise what the server has raised, or ``MessagingTimeout``.

        ``monitor``: the seconds without a word of the server after which it counts as gone.
        """
        unique_ids = set()
        final: Any = None
        while True:
            left = patience.left()
            waiting = left if not monitor else min(left, monitor)
            try:
                fields = self._next(waiting)
            except queue.Empty:
                if waiting == left:
                    raise patience.ended() from None
                raise oslo_messaging.MessagingTimeout(
                    f"No sign of life of the server within {monitor} s of call {self._msg_id}"
                ) from None
            unique_id = fields.get("_unique_id")
            if unique_id in unique_ids:
                continue
            if unique_id:
                unique_ids.add(unique_id)
            if fields.get("failure"):
                raise rebuild(fields["failure"])
            # Of peers that send the result and the end in two messages, the result is in the first.
            if fields.get("result") is not None:
                final = fields["result"]
            if fields.get("ending", False):
                return final
