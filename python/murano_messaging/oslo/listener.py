"""Listeners: threads that take messages off queues and hand them to a server."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import oslo_messaging
from oslo_messaging._drivers import amqp, base, common

import murano_messaging as mm

from .body import decode
from .connection import Connection
from .declaring import declare
from .duplicates import Duplicates
from .options import Settings, pool_size
from .patience import OPERATION, Patience
from .topology import Destination

if TYPE_CHECKING:
    from .driver import MuranoDriver

LOG = logging.getLogger(__name__)

#: The pauses between two attempts at a queue that cannot be consumed, in seconds: the first, and the longest.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0

#: How long one attempt waits for the connection, in seconds; a listener that is stopped waits for the end of it.
CONNECT = 5.0

#: How long a listener that ends waits for replies whose queue is missing, in seconds.
LATE = 1.0

#: The most messages that a consumer may hold, by AMQP.
MOST = 65535


@dataclass
class Source:
    """A queue that is consumed."""

    queue: str
    destinations: list[Destination]
    #: Its name is random: nobody consumes it after this listener.
    own: bool = False
    consumer: Optional[mm.Consumer] = None
    offset: Any = "last"

    @property
    def stream(self) -> bool:
        """Whether the queue is a stream."""
        return self.destinations[0].queue.stream


class Listener(base.Listener):  # type: ignore[misc]
    """What a server starts: its queues are declared at once, and consumed from :meth:`start` on."""

    def __init__(
        self,
        driver: MuranoDriver,
        connection: Connection,
        settings: Settings,
        sources: list[Source],
        incoming: Any,
        ack_on: str,
        batch_size: int = 1,
        batch_timeout: Optional[float] = None,
    ) -> None:
        """Declare the queues; waits for the broker."""
        super().__init__(batch_size, batch_timeout)
        self.driver = driver
        self.connection = connection
        self.settings = settings
        self.ack_on = ack_on
        self.duplicates = Duplicates()
        self._incoming = incoming
        self._prefetch = settings.prefetch or pool_size(driver.conf)
        self._sources = sources
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._inbox: Any = queue.SimpleQueue() if batch_size > 1 else None
        for source in sources:
            self._until_done(lambda client, source=source: self._declare(client, source), f"queue {source.queue}")

    def start(self, on_incoming_callback: Any) -> None:
        """Consume the queues, and hand what comes to the callback."""
        super().start(on_incoming_callback)
        for source in self._sources:
            self._until_done(lambda client, source=source: self._consume(client, source), f"queue {source.queue}")
        work: list[tuple[Any, tuple[Any, ...]]] = [(self._run, (source,)) for source in self._sources]
        if self._inbox is not None:
            work.append((self._make_batches, ()))
        for target, args in work:
            thread = threading.Thread(target=target, args=args, name="murano-listener", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Take nothing more. What waits goes back to its queue; what was handed over can still be acknowledged."""
        self._stopping.set()
        for source in self._sources:
            self._cancel(source)
        if self._inbox is not None:
            self._inbox.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        super().stop()

    def cleanup(self) -> None:
        """Delete the queues that nobody will consume again."""
        self.driver.late_replies.wait(LATE)
        self._stopping.set()
        for source in self._sources:
            self._cancel(source)
            if source.own and self.connection.is_up():
                try:
                    self.connection.client(Patience("", 1.0)).delete_queue(source.queue, timeout=5)
                except (mm.MessagingError, oslo_messaging.MessagingException) as error:
                    # It expires by itself too.
                    LOG.debug("The queue %s was not deleted: %s", source.queue, error)
        self.driver.forget_listener(self)

    def _cancel(self, source: Source) -> None:
        if source.consumer is None:
            return
        try:
            source.consumer.cancel(timeout=OPERATION if self.connection.is_up() else 0.1)
        except mm.MessagingError as error:
            LOG.debug("The consumer of %s was not cancelled: %s", source.queue, error)

    # ---- the queues ----------------------------------------------------------------------------------------------

    def _until_done(self, work: Any, what: str) -> bool:
        """Do something with the broker, for as often as it takes; ``False`` when the listener is stopped."""
        pause = FIRST_PAUSE
        logged = ""
        while not self._stopping.is_set():
            try:
                work(self.connection.client(Patience("a listener", CONNECT)))
            except (mm.ForkedError, mm.InvalidArgumentError):
                raise
            except (mm.MessagingError, oslo_messaging.MessagingException) as error:
                if str(error) != logged:
                    LOG.warning("%s cannot be consumed yet: %s", what, error)
                    logged = str(error)
                # Jitter: the servers of a cluster do not ask at the same moment.
                self._stopping.wait(pause * (0.5 + random.random()))
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return True
        return False

    def _declare(self, client: mm.Client, source: Source) -> None:
        for destination in source.destinations:
            declare(self.connection, client, destination, OPERATION)

    def _consume(self, client: mm.Client, source: Source) -> None:
        settings = self.settings
        options: dict[str, Any] = {}
        if source.stream:
            options["stream_offset"] = source.offset
        if settings.cancel_on_failover:
            options["arguments"] = {"x-cancel-on-ha-failover": True}
        prefetch = min(max(self._prefetch, self.batch_size), MOST)
        source.consumer = client.consume(source.queue, prefetch=prefetch, timeout=OPERATION, **options)
        if self._stopping.is_set():
            # It was stopped while this was under way.
            self._cancel(source)

    def _run(self, source: Source) -> None:
        while not self._stopping.is_set():
            try:
                assert source.consumer is not None
                delivery = source.consumer.get()
                if delivery is not None:
                    self._take(source, delivery)
            except mm.ForkedError:
                return
            except mm.MessagingError as error:
                if self._stopping.is_set():
                    return
                LOG.warning("The consumer of queue %s ended, and is started again: %s", source.queue, error)
                if isinstance(error, mm.ConsumerCancelledError):
                    # A stream that was deleted begins at 0 again.
                    source.offset = "last"

                def again(client: mm.Client) -> None:
                    self._declare(client, source)
                    self._consume(client, source)

                self._until_done(again, f"queue {source.queue}")
            except Exception:
                LOG.exception("A message of queue %s could not be handed over", source.queue)
                time.sleep(FIRST_PAUSE)

    # ---- the messages --------------------------------------------------------------------------------------------

    def _take(self, source: Source, delivery: mm.Delivery) -> None:
        try:
            message = decode(delivery)
        except (ValueError, common.RPCException) as error:
            LOG.warning("A message of queue %s that cannot be read is dropped: %s", source.queue, error)
            delivery.reject()
            return
        if source.stream:
            offset = delivery.headers.get("x-stream-offset")
            source.offset = offset + 1 if isinstance(offset, int) else source.offset
        context = amqp.unpack_context(message)
        unique_id = message.pop(amqp.UNIQUE_ID, None)
        if self.ack_on == "receipt":
            if not self.duplicates.begin(unique_id, delivery):
                return
            delivery.ack()
            self.duplicates.end(unique_id)
        elif self.ack_on == "notification":
            if not self.duplicates.begin(unique_id, delivery):
                return
        elif not self.duplicates.is_new(unique_id, delivery):
            LOG.debug("Message %s has come twice", unique_id)
            return
        incoming = self._incoming(self, delivery, context, message, unique_id)
        if self._inbox is not None:
            self._inbox.put(incoming)
        elif self.on_incoming_callback is not None:
            self.on_incoming_callback([incoming])

    def _make_batches(self) -> None:
        batch: list[Any] = []
        until = 0.0
        while True:
            wait = None if not batch or self.batch_timeout is None else max(until - time.monotonic(), 0.0)
            try:
                incoming = self._inbox.get(timeout=wait)
                ended = incoming is None
            except queue.Empty:
                incoming, ended = None, False
            if incoming is not None:
                if not batch and self.batch_timeout is not None:
                    until = time.monotonic() + self.batch_timeout
                batch.append(incoming)
                if len(batch) < self.batch_size:
                    continue
            if batch:
                # A new list: the server keeps it.
                self.on_incoming_callback(batch)
                batch = []
            if ended:
                return
