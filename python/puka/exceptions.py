"""See ``murano_messaging.compat.puka.exceptions``."""

from murano_messaging.compat.puka.exceptions import *  # noqa: F403
