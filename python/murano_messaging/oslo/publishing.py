"""Publishing: each message until the broker has confirmed it, or its sender's patience is over."""

from __future__ import annotations

import time
from typing import Optional

import murano_messaging as mm

from .body import Message
from .connection import Connection
from .declaring import declare, declare_exchange
from .errors import QueueGoneError, failure
from .patience import ATTEMPT, CONFIRM, Patience
from .replies import Call
from .topology import Destination, Exchange

#: How long a call waits for its reply before it looks at the confirm of its request, in seconds.
CALL = 0.1

#: The pauses before a message is published again that no queue took, in seconds: the first, and the longest.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5


def to_destination(
    connection: Connection,
    destination: Destination,
    message: Message,
    patience: Patience,
    *,
    at_least_once: bool = False,
    declare_missing: bool = False,
    declare_before: bool = False,
    call: Optional[Call] = None,
) -> None:
    """Publish to a destination until a queue has the message.

    A message that no queue takes raises with ``at_least_once``. With ``declare_missing`` its queue is declared as its
    server does. Otherwise it is published again until a server has come, while the patience lasts.
    ``declare_before``: the queue is declared before too, once for each connection, because another may take the message.
    ``call``: its reply says as well as a confirm that the message has arrived.
    """
    exchange, key = destination.exchange.name, destination.routing_key
    pause = FIRST_PAUSE
    while True:
        client = connection.client(patience)
        try:
            if declare_before and (exchange, key) not in connection.queues:
                _declare_for_others(connection, client, destination, patience)
                connection.queues.add((exchange, key))
            elif exchange not in connection.exchanges:
                declare_exchange(connection, client, destination.exchange, patience.operation())
        except mm.MessagingError as error:
            _again(patience, error, f"exchange '{exchange}' could not be declared")
            continue
        try:
            _publish(client, message, exchange, key, patience, mandatory=True, call=call)
        except mm.UnroutableError as error:
            if at_least_once:
                raise QueueGoneError(error, exchange, key, message.body) from error
            connection.queues.discard((exchange, key))
            if declare_missing:
                try:
                    _declare_for_others(connection, client, destination, patience)
                except mm.MessagingError as refused:
                    _again(patience, refused, f"the queue for routing key '{key}' could not be declared")
            else:
                time.sleep(min(pause, patience.left()))
                pause = min(pause * 2, LONGEST_PAUSE)
            if patience.over:
                raise patience.ended(error) from error
        except mm.NotFoundError as error:
            # The exchange: it went with a restart of the broker, or with its last queue.
            connection.exchanges.discard(exchange)
            connection.queues.discard((exchange, key))
            if patience.over:
                raise patience.ended(error) from error
        except (mm.OperationTimeoutError, mm.BlockedError) as error:
            raise patience.ended(error) from error
        except mm.MessagingError as error:
            raise failure(f"a message to '{key}' was not delivered", error) from error
        else:
            return


def _again(patience: Patience, error: mm.MessagingError, what: str) -> None:
    """Return where a declaration can be tried again: it went unanswered, or with the connection."""
    lasting = not isinstance(error, (mm.OperationTimeoutError, mm.ConnectionLostError, mm.NotFoundError))
    if lasting:
        raise failure(what, error) from error
    if patience.left_away() <= 0:
        raise patience.ended(error) from error
    time.sleep(min(FIRST_PAUSE, patience.left()))


def _declare_for_others(connection: Connection, client: mm.Client, destination: Destination, patience: Patience) -> None:
    declare(connection, client, destination, patience.operation())
    # Its servers declare it again after a restart of the broker. This client does not: it would bring back the queues of
    # servers that are long gone.
    client.forget(destination.queue.name)


def to_all(connection: Connection, exchange: Exchange, message: Message, patience: Patience) -> None:
    """Publish a copy to each server of a topic that listens now."""
    missing = 0
    while True:
        client = connection.client(patience)
        try:
            declare_exchange(connection, client, exchange, patience.operation())
        except mm.MessagingError as error:
            _again(patience, error, f"exchange '{exchange.name}' could not be declared")
            continue
        try:
            _publish(client, message, exchange.name, "", patience, mandatory=False)
        except mm.NotFoundError as error:
            # It goes with its last server.
            connection.exchanges.discard(exchange.name)
            missing += 1
            if missing == 3 or patience.over:
                raise failure(f"a message to '{exchange.name}' was not delivered", error) from error
        except (mm.OperationTimeoutError, mm.BlockedError) as error:
            raise patience.ended(error) from error
        except mm.MessagingError as error:
            raise failure(f"a message to '{exchange.name}' was not delivered", error) from error
        else:
            return


def to_queue(connection: Connection, queue: str, message: Message, patience: Patience) -> None:
    """Publish to a queue by its name; ``UnroutableError`` if it is missing."""
    client = connection.client(patience)
    _publish(client, message, "", queue, patience, mandatory=True)


def towards_queue(connection: Connection, queue: str, message: Message, patience: Patience) -> mm.Confirmation:
    """Publish to a queue by its name; the confirmation is to be looked at later."""
    client = connection.client(patience)
    return client.publish_nowait(
        message.body, routing_key=queue, mandatory=True, timeout=patience.left(), **message.properties
    )


def _publish(
    client: mm.Client,
    message: Message,
    exchange: str,
    routing_key: str,
    patience: Patience,
    mandatory: bool,
    call: Optional[Call] = None,
) -> None:
    if call is None and not patience.counts_attempts:
        client.publish(
            message.body,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            timeout=patience.left(),
            **message.properties,
        )
        return
    confirmation = client.publish_nowait(
        message.body,
        exchange=exchange,
        routing_key=routing_key,
        mandatory=mandatory,
        timeout=min(patience.left(), CONFIRM + patience.left_away()),
        **message.properties,
    )
    error = _attempts(client, confirmation, patience, call)
    if error is not None:
        raise error


def _attempts(
    client: mm.Client, confirmation: mm.Confirmation, patience: Patience, call: Optional[Call]
) -> Optional[mm.MessagingError]:
    """Wait for a confirm until the broker has been away for too long; one that is there has its time."""
    # One wait for most calls, instead of one for the confirm and one for the reply.
    if call is not None and call.is_answered(CALL):
        return None
    while True:
        try:
            confirmation.result(timeout=max(min(patience.left_away(), ATTEMPT if call is None else CALL), 0.05))
        except mm.OperationTimeoutError as error:
            if confirmation.done():
                return error
            if patience.left_away() <= 0 and not (client.connected and client.stats().publish_connected):
                confirmation.cancel()
                return error
            # A queue that writes to disk may confirm after the reply.
            if call is not None and call.is_answered(0.0):
                return None
        except mm.MessagingError as error:
            return error
        else:
            return None
