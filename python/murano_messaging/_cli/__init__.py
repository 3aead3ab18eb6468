"""The command line ``murano-messaging``: ``docs/command-line.md`` describes it.

Each command is a module with ``add(commands)``, which adds its parser; the parser's ``run`` does it and returns the exit
status: 0, or 1 when it failed. What goes wrong is one line on stderr that says what to do.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import NoReturn

import murano_messaging as mm

from . import _bench, _broker, _completion, _consume, _doctor, _ping, _publish, _queue, _top
from ._connecting import FROM_ENVIRONMENT, Failure, is_uri
from ._wording import one_line, redacted

_COMMANDS = (_ping, _doctor, _publish, _consume, _queue, _bench, _top, _broker, _completion)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {redacted(message)}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="murano-messaging",
        description="Try, watch and use a RabbitMQ from the command line.",
        epilog="The URI comes first (amqp://user@host/vhost, amqps:// for TLS), or from the environment variable"
        " AMQP_URL. `murano-messaging COMMAND --help` has the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"murano-messaging {mm.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in _COMMANDS:
        command.add(commands)
    return parser


def _with_uri(words: list[str]) -> list[str]:
    """Put the URI of the environment in its place, unless one is given."""
    if not words or words[0] in ("broker", "completion") or words[0].startswith("-"):
        return words
    if any(is_uri(word) for word in words) or not os.environ.get("AMQP_URL"):
        return words
    after = 2 if words[0] == "queue" else 1
    return [*words[:after], FROM_ENVIRONMENT, *words[after:]]


def main(given: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    # What happens to connections is in the errors; the log is for --verbose.
    logging.getLogger("murano_messaging").addHandler(logging.NullHandler())
    words = sys.argv[1:] if given is None else given
    parser = _parser()
    arguments, rest = parser.parse_known_args(_with_uri(words))
    if rest and getattr(arguments, "queue", "") is None and not rest[0].startswith("-"):
        # Behind an option, argparse takes no name that may be left out.
        arguments.queue = rest.pop(0)
    if rest:
        parser.error(f"not known: {' '.join(word.rpartition('@')[2] for word in rest)}")
    if getattr(arguments, "verbose", False):
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough. Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (mm.MessagingError, Failure, OSError) as error:
        print(f"murano-messaging {arguments.command}: {one_line(error)}", file=sys.stderr)
        return 1
