"""See ``murano_messaging.compat.puka.urlparse``."""

from murano_messaging.compat.puka.urlparse import *  # noqa: F403
