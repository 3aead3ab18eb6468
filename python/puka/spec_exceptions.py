"""See ``murano_messaging.compat.puka.spec_exceptions``."""

from murano_messaging.compat.puka.spec_exceptions import *  # noqa: F403
