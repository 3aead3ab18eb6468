"""``MqClient``, ``Message`` and ``Subscription`` as Murano's components of 2014 import them."""

from .message import Message
from .mqclient import MqClient
from .subscription import Subscription

__all__ = ["Message", "MqClient", "Subscription"]
