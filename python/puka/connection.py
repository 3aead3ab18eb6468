"""See ``murano_messaging.compat.puka.connection``."""

from murano_messaging.compat.puka.connection import *  # noqa: F403
