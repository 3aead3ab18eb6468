"""Declaring exchanges and queues; what exists with other properties is used as it is, with one warning."""

from __future__ import annotations

import logging

import murano_messaging as mm

from .connection import Connection
from .topology import Destination, Exchange, Queue

LOG = logging.getLogger(__name__)


def declare_exchange(connection: Connection, client: mm.Client, exchange: Exchange, timeout: float) -> None:
    """Declare an exchange, once for each connection."""
    if exchange.name in connection.exchanges:
        return
    try:
        client.declare_exchange(
            exchange.name, exchange.type, durable=exchange.durable, auto_delete=exchange.auto_delete, timeout=timeout
        )
    except mm.PreconditionFailedError as error:
        client.check_exchange(exchange.name, timeout=timeout)
        _warn_once(connection, f"exchange '{exchange.name}'", error)
    connection.exchanges.add(exchange.name)


def declare_queue(connection: Connection, client: mm.Client, queue: Queue, timeout: float) -> None:
    """Declare a queue."""
    durable = queue.durable or connection.refuses_transient
    options = {"auto_delete": queue.auto_delete, "timeout": timeout, **queue.options}
    try:
        client.declare_queue(queue.name, durable=durable, **options)
    except mm.PreconditionFailedError as error:
        client.queue_info(queue.name, timeout=timeout)
        _warn_once(connection, f"queue '{queue.name}'", error)
    except mm.RefusedError as error:
        # RabbitMQ 4.3 ends the connection over a transient queue (541, "deprecated feature").
        if error.reply_code not in (540, 541) or durable:
            raise
        client.declare_queue(queue.name, durable=True, **options)
        connection.refuses_transient = True
        LOG.warning("The broker refuses transient queues: they are declared durable (%s)", error)


def declare(connection: Connection, client: mm.Client, destination: Destination, timeout: float) -> None:
    """Declare a queue with its exchange, and bind it, as a server of this configuration does."""
    exchange, queue = destination.exchange, destination.queue
    for last in (False, True):
        declare_exchange(connection, client, exchange, timeout)
        declare_queue(connection, client, queue, timeout)
        try:
            client.bind(queue.name, exchange.name, destination.routing_key, timeout=timeout)
        except mm.NotFoundError:
            # An auto-delete exchange, or the queue, went meanwhile.
            connection.exchanges.discard(exchange.name)
            if last:
                raise
        else:
            return


def _warn_once(connection: Connection, what: str, error: mm.MessagingError) -> None:
    if what not in connection.warned:
        connection.warned.add(what)
        LOG.warning("The %s exists with other properties and is used as it is: %s", what, error)
