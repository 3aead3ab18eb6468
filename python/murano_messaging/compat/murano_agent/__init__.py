"""``muranoagent.common.messaging``, the wrapper of Murano's agent, on the native client."""

from . import message, mqclient, subscription
from .message import Message
from .mqclient import MqClient
from .subscription import Subscription

__all__ = ["Message", "MqClient", "Subscription", "message", "mqclient", "subscription"]
