"""``queue declare|inspect|purge|delete|move|replay URI NAME``."""

from __future__ import annotations

import argparse
import json
from typing import Any, Callable, Optional

import murano_messaging as mm

from . import _connecting
from ._connecting import Failure
from ._interrupting import Interrupts
from ._progress import Progress
from ._wording import one_line


def add(commands: Any) -> None:
    """Add the command and its own commands."""
    queue = commands.add_parser("queue", help="declare, inspect, purge, delete, move and replay queues")
    actions = queue.add_subparsers(required=True, metavar="ACTION", dest="action")

    def action(name: str, run: Callable[[argparse.Namespace], int], text: str, **more: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name,
            parents=[_connecting.options()],
            help=text,
            description=more.get("description", text[0].upper() + text[1:] + "."),
        )
        parser.add_argument("queue", metavar="NAME", help="the queue")
        parser.set_defaults(run=run)
        return parser

    declare = action("declare", _declare, "make a queue, or check that it is there with these properties")
    declare.add_argument("--type", choices=("classic", "quorum", "stream"))
    declare.add_argument(
        "--expires", type=_connecting.seconds, metavar="SECONDS", help="delete it when unused for so long"
    )
    declare.add_argument(
        "--message-ttl", type=_connecting.seconds, metavar="SECONDS", help="how long messages wait at most"
    )
    declare.add_argument("--max-length", type=_connecting.count, metavar="MESSAGES")
    declare.add_argument("--max-length-bytes", type=_connecting.count, metavar="BYTES")
    declare.add_argument("--max-age", type=_connecting.seconds, metavar="SECONDS", help="of a stream's messages")
    declare.add_argument("--overflow", choices=("drop-head", "reject-publish", "reject-publish-dlx"))
    declare.add_argument("--dead-letter-exchange", metavar="NAME", help='the default exchange is ""')
    declare.add_argument("--dead-letter-routing-key", metavar="KEY")
    declare.add_argument("--max-priority", type=_connecting.count, metavar="N")
    declare.add_argument("--delivery-limit", type=_connecting.count, metavar="N")
    declare.add_argument("--single-active-consumer", action="store_true", default=None)
    declare.add_argument("--transient", action="store_true", help="gone after a restart of the broker")
    declare.add_argument("--auto-delete", action="store_true", default=None, help="delete it with its last consumer")
    declare.add_argument("--bind", action="append", default=[], metavar="EXCHANGE:KEY", help="bind it to an exchange")

    inspect = action("inspect", _inspect, "show how many messages and consumers a queue has")
    inspect.add_argument("--json", action="store_true", help="as a JSON object")

    action("purge", _purge, "drop the ready messages of a queue")

    delete = action("delete", _delete, "delete a queue with its messages")
    delete.add_argument("--if-empty", action="store_true", help="only if it has no messages")
    delete.add_argument("--if-unused", action="store_true", help="only if it has no consumers")

    move = action(
        "move",
        _move,
        "move the messages of a queue to another",
        description="Publish each message of a queue to another one and, when the broker has confirmed that, ack it."
        " What is there when it begins is moved, so that it ends. A message whose publish fails stays where it is.",
    )
    move.add_argument("to", metavar="TO", help="the queue they go to")
    replay = action(
        "replay",
        _replay,
        "send the messages of a dead-letter queue back to the queues they came from",
        description="Publish each message of a dead-letter queue to the queue that it was dead-lettered from last (its"
        " header x-death says so), without the headers about dead-lettering, and ack it when the broker has confirmed"
        " that. A message that does not say where it came from stays where it is.",
    )
    replay.add_argument(
        "--original-routing",
        action="store_true",
        help="publish to the exchange, and with the routing key, that it had: other queues that are bound get it too",
    )
    for parser in (move, replay):
        parser.add_argument("--count", type=_connecting.count, help="so many at most")


_DECLARED = (
    "type",
    "expires",
    "message_ttl",
    "max_length",
    "max_length_bytes",
    "max_age",
    "overflow",
    "dead_letter_exchange",
    "dead_letter_routing_key",
    "max_priority",
    "delivery_limit",
    "single_active_consumer",
    "auto_delete",
)


def _said(info: mm.QueueInfo) -> str:
    def number(count: int, noun: str) -> str:
        return f"{count} {noun}{'' if count == 1 else 's'}"

    return f"{info.name}: {number(info.message_count, 'message')}, {number(info.consumer_count, 'consumer')}"


def _declare(arguments: argparse.Namespace) -> int:
    options = {name: getattr(arguments, name) for name in _DECLARED if getattr(arguments, name) is not None}
    bindings = [binding.partition(":") for binding in arguments.bind]
    with _connecting.connect(arguments) as client:
        info = client.declare_queue(arguments.queue, durable=not arguments.transient, **options)
        for exchange, _, key in bindings:
            client.bind(info.name, exchange, key)
    print(_said(info))
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    with _connecting.connect(arguments) as client:
        info = client.queue_info(arguments.queue)
    print(json.dumps(info._asdict()) if arguments.json else _said(info))
    return 0


def _purge(arguments: argparse.Namespace) -> int:
    with _connecting.connect(arguments) as client:
        print(client.purge_queue(arguments.queue))
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    with _connecting.connect(arguments) as client:
        # RabbitMQ answers the delete of a queue that is not there as if it had been.
        client.queue_info(arguments.queue)
        print(client.delete_queue(arguments.queue, if_empty=arguments.if_empty, if_unused=arguments.if_unused))
    return 0


# The exchange and the routing key that a message goes to; None if it does not say.
_Route = Callable[[mm.Delivery], Optional[tuple[str, str]]]


def _is_about_death(header: str) -> bool:
    return header == "x-death" or header.startswith(("x-first-death-", "x-last-death-"))


def _options_for(delivery: mm.Delivery, user: str, without_death: bool) -> dict[str, Any]:
    """What the message is published with, so that it is the same message."""
    options = dict(delivery.properties)
    headers = dict(options.pop("headers", None) or {})
    # It would be sent to all of those once more.
    headers.pop("CC", None)
    if without_death:
        headers = {name: value for name, value in headers.items() if not _is_about_death(name)}
    if headers:
        options["headers"] = headers
    # The broker checks it: only the user who published first may say so.
    if options.get("user_id") not in (None, user):
        del options["user_id"]
    return options


def _transfer(arguments: argparse.Namespace, route: _Route, without_death: bool) -> int:
    """Publishes each message where it goes, and acks it then."""
    kept: list[mm.Delivery] = []
    first = ""

    def keep(delivery: mm.Delivery, why: str) -> None:
        nonlocal first
        first = first or why
        kept.append(delivery)

    with _connecting.connect(arguments) as client, Interrupts() as interrupts:
        user = _connecting.user(arguments)
        total = client.queue_info(arguments.queue).message_count
        if arguments.count is not None:
            total = min(total, arguments.count)
        progress = Progress("messages", total)
        with client.consume(arguments.queue, prefetch=0 if total > 65535 else max(total, 1)) as consumer:
            left = total
            while left > 0 and not interrupts:
                deliveries = consumer.get_many(min(left, 100), timeout=arguments.timeout)
                if not deliveries:
                    # Another consumer took the rest.
                    break
                left -= len(deliveries)
                sent: list[tuple[mm.Delivery, mm.Confirmation]] = []
                for delivery in deliveries:
                    to = route(delivery)
                    if to is None:
                        keep(delivery, "it does not say where it came from (x-death)")
                    elif delivery.headers_error is not None:
                        keep(delivery, f"its headers cannot be read: {delivery.headers_error}")
                    else:
                        options = _options_for(delivery, user, without_death)
                        exchange, key = to
                        confirmation = client.publish_nowait(delivery.body, exchange=exchange, routing_key=key, **options)
                        sent.append((delivery, confirmation))
                for delivery, confirmation in sent:
                    error = confirmation.exception()
                    if error is None:
                        delivery.ack()
                        progress.add()
                    else:
                        keep(delivery, one_line(error))
            for delivery in kept:
                delivery.nack(requeue=True)
    progress.end()
    print(progress.done)
    if kept:
        raise Failure(f"{len(kept)} stayed in {arguments.queue!r}; the first, because {first}")
    return interrupts.status if interrupts else 0


def _move(arguments: argparse.Namespace) -> int:
    if arguments.to == arguments.queue:
        raise Failure("the messages are in that queue already: give another as TO")
    return _transfer(arguments, lambda _: ("", arguments.to), without_death=False)


def _replay(arguments: argparse.Namespace) -> int:
    def origin(delivery: mm.Delivery) -> tuple[str, str] | None:
        deaths = delivery.headers.get("x-death") if delivery.headers_error is None else None
        for death in deaths if isinstance(deaths, list) else ():
            if not isinstance(death, dict) or death.get("queue") in (None, "", arguments.queue):
                continue
            if not arguments.original_routing:
                return ("", death["queue"]) if isinstance(death["queue"], str) else None
            exchange, keys = death.get("exchange"), death.get("routing-keys")
            if isinstance(exchange, str) and isinstance(keys, list) and keys and isinstance(keys[0], str):
                return exchange, keys[0]
        return None

    return _transfer(arguments, origin, without_death=True)
