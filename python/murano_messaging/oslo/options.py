"""The options of operators: those of the driver ``rabbit``, which keep their meaning, and ours."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import Any, Optional

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers import amqp, common, impl_rabbit
from oslo_utils import netutils

GROUP = "oslo_messaging_murano"
RABBIT = "oslo_messaging_rabbit"

#: The longest pause between two attempts to connect again, in seconds, unless operators want a shorter one.
LONGEST_DELAY = 5.0

#: The threads of a server's executor, where nobody has registered the option yet.
DEFAULT_POOL = 64

murano_opts = [
    cfg.StrOpt(
        "ack_on",
        default="dispatch",
        choices=[
            ("receipt", "When a request arrives, as the driver rabbit does: requests that wait in a server die with it."),
            ("dispatch", "Just before its method is called: requests that wait go back to the queue."),
            ("done", "When its method has returned: nothing is lost, and a method may be called twice."),
        ],
        help="When an RPC server acknowledges a request, which decides what becomes of it when the server dies.",
    ),
    cfg.IntOpt(
        "prefetch",
        default=0,
        min=0,
        max=65535,
        help="How many unacknowledged messages of each queue the broker sends ahead to a server; other servers get the "
        "rest. 0: rabbit_qos_prefetch_count, or if that is 0 too, executor_thread_pool_size.",
    ),
    cfg.BoolOpt(
        "declare_missing_queues",
        default=True,
        help="Whether a cast that no queue takes declares the queue of its server, as that server will, and waits in it.",
    ),
    cfg.IntOpt(
        "topic_queues_ttl",
        default=0,
        min=0,
        help="After how many seconds without use the queues of topics and servers expire (x-expires). 0: never. Servers "
        "with the driver rabbit do not start on a queue that expires: where there are some, set a policy of the broker.",
    ),
    cfg.IntOpt(
        "random_servers_ttl",
        default=0,
        min=0,
        help="As topic_queues_ttl, for the queues of servers with a UUID in their name only, which never come back.",
    ),
    cfg.IntOpt(
        "pool_queues_ttl",
        default=0,
        min=0,
        help="After how many seconds without use the queue of a pool of notification listeners expires. 0: never.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=10.0,
        min=0.1,
        help="How many seconds one attempt to connect may take, over all hosts.",
    ),
    cfg.BoolOpt(
        "tls_insecure",
        default=False,
        help="Whether any certificate is accepted where ssl is on and ssl_ca_file is empty, as the driver rabbit does. "
        "Otherwise it is verified by the authorities of the system.",
    ),
]


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return what configuration generators ask for."""
    return [(GROUP, list(murano_opts))]


class QueueOptions(oslo_messaging.TransportOptions):  # type: ignore[misc]
    """How the queue of a target is declared when a cast finds it missing; ``transport_options`` of a client.

    The servers of the target must be ours: what exists is used as it is. Durations are in seconds.
    """

    def __init__(
        self,
        at_least_once: bool = False,
        *,
        expires: Optional[float] = None,
        message_ttl: Optional[float] = None,
        max_length: Optional[int] = None,
    ) -> None:
        """Take ``at_least_once`` as its base does: a message that no queue takes raises, and nothing is declared."""
        super().__init__(at_least_once)
        self.expires = expires
        self.message_ttl = message_ttl
        self.max_length = max_length


def register(conf: Any) -> None:
    """Register the options of both groups."""
    conf.register_group(cfg.OptGroup(name=RABBIT, title="RabbitMQ driver options"))
    # The very same objects: copies would be refused as duplicates beside the driver rabbit.
    conf.register_opts(impl_rabbit.rabbit_opts, group=RABBIT)
    conf.register_opts(amqp.amqp_opts, group=RABBIT)
    conf.register_group(cfg.OptGroup(name=GROUP, title="Options of the driver murano"))
    conf.register_opts(murano_opts, group=GROUP)


def proxies(conf: Any, url: Any) -> tuple[Any, Any]:
    """Return the configuration as the URL's query overrides it, for the options of rabbit and for ours.

    An option that neither group has is ``NoSuchOptError``.
    """
    ours = {option.dest for option in murano_opts}

    def only(wanted: Any) -> Any:
        query = {name: value for name, value in url.query.items() if wanted(name)}
        return oslo_messaging.TransportURL(conf, url.transport, url.virtual_host, url.hosts, query)

    rabbit = common.ConfigOptsProxy(conf, only(lambda name: name not in ours), RABBIT)
    murano = common.ConfigOptsProxy(conf, only(lambda name: name in ours), GROUP)
    return rabbit, murano


@dataclass(frozen=True)
class Settings:
    """What the options say, read when the first connection is made: services set them after they have a transport."""

    durable: bool
    auto_delete: bool
    ha_queues: bool
    quorum: bool
    transient_quorum: bool
    quorum_arguments: tuple[tuple[str, int], ...]
    stream_fanout: bool
    transient_ttl: int
    cancel_on_failover: bool
    prefetch: int
    missing_consumer_retry: int
    compression: Optional[str]
    retry_intervals: tuple[float, float, float]
    queue_manager: Optional[tuple[str, str]]
    ack_on: str
    declare_missing: bool
    topic_ttl: int
    random_server_ttl: int
    pool_ttl: int

    @classmethod
    def read(cls, rabbit_conf: Any, murano_conf: Any) -> Settings:
        """Read them; ``RuntimeError`` for a combination that cannot be, as the driver rabbit raises."""
        rabbit, ours = rabbit_conf[RABBIT], murano_conf[GROUP]
        if rabbit.rabbit_quorum_queue and rabbit.rabbit_ha_queues:
            raise RuntimeError("Configuration Error: rabbit_quorum_queue and rabbit_ha_queues are both enabled")
        if rabbit.rabbit_stream_fanout and not (
            rabbit.rabbit_qos_prefetch_count > 0 and rabbit.rabbit_transient_quorum_queue
        ):
            raise RuntimeError(
                "Configuration Error: rabbit_stream_fanout needs rabbit_qos_prefetch_count above 0 and "
                "rabbit_transient_quorum_queue"
            )
        quorum = [
            ("x-delivery-limit", rabbit.rabbit_quorum_delivery_limit),
            ("x-max-in-memory-length", rabbit.rabbit_quorum_max_memory_length),
            ("x-max-in-memory-bytes", rabbit.rabbit_quorum_max_memory_bytes),
        ]
        return cls(
            durable=rabbit.amqp_durable_queues or rabbit.rabbit_quorum_queue,
            auto_delete=rabbit.amqp_auto_delete,
            ha_queues=rabbit.rabbit_ha_queues,
            quorum=rabbit.rabbit_quorum_queue,
            transient_quorum=rabbit.rabbit_transient_quorum_queue,
            quorum_arguments=tuple((name, value) for name, value in quorum if value),
            stream_fanout=rabbit.rabbit_stream_fanout,
            transient_ttl=rabbit.rabbit_transient_queues_ttl,
            cancel_on_failover=rabbit.enable_cancel_on_failover,
            prefetch=ours.prefetch or rabbit.rabbit_qos_prefetch_count,
            missing_consumer_retry=rabbit.kombu_missing_consumer_retry_timeout,
            compression=rabbit.kombu_compression or None,
            retry_intervals=(rabbit.rabbit_retry_interval, rabbit.rabbit_retry_backoff, rabbit.rabbit_interval_max),
            queue_manager=(rabbit.hostname, rabbit.processname) if rabbit.use_queue_manager else None,
            ack_on=ours.ack_on,
            declare_missing=ours.declare_missing_queues,
            topic_ttl=ours.topic_queues_ttl,
            random_server_ttl=ours.random_servers_ttl,
            pool_ttl=ours.pool_queues_ttl,
        )


def pool_size(conf: Any) -> int:
    """Return the threads of a server's executor. A server registers the option when it is made."""
    return conf.executor_thread_pool_size if "executor_thread_pool_size" in conf else DEFAULT_POOL


_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


def is_random(server: str) -> bool:
    """Whether the name of a server has a UUID in it."""
    return _UUID.search(server) is not None


def connect_options(rabbit_conf: Any, murano_conf: Any, url: Any) -> tuple[tuple[str, Any], ...]:
    """Return the arguments of ``murano_messaging.connect``, as what connections are shared by."""
    rabbit, ours = rabbit_conf[RABBIT], murano_conf[GROUP]
    options: dict[str, Any] = {
        "max_delay": min(float(rabbit.rabbit_interval_max), LONGEST_DELAY),
        "uri": _uri(url),
        "vhost": url.virtual_host or "/",
        "heartbeat": rabbit.heartbeat_timeout_threshold,
        "connect_timeout": ours.connect_timeout,
        "mechanism": rabbit.rabbit_login_method.lower(),
    }
    if options["mechanism"] not in ("plain", "amqplain", "external"):
        raise RuntimeError(f"rabbit_login_method {rabbit.rabbit_login_method} is not supported by the driver murano")
    if rabbit.ssl:
        options["tls"] = True
        if rabbit.ssl_ca_file:
            options["ca_file"] = rabbit.ssl_ca_file
        elif ours.tls_insecure:
            options["insecure"] = True
        if rabbit.ssl_cert_file:
            options["cert_file"] = rabbit.ssl_cert_file
            # One file may have both.
            options["key_file"] = rabbit.ssl_key_file or rabbit.ssl_cert_file
    return tuple(sorted(options.items()))


def _uri(url: Any) -> str:
    """Write the hosts of a transport URL as our URI has them: all with credentials, or none."""
    hosts = []
    for host in url.hosts:
        name = netutils.escape_ipv6(host.hostname or "localhost")
        port = host.port or 5672
        login = ":".join(urllib.parse.quote(part or "guest", "") for part in (host.username, host.password))
        hosts.append(f"{login}@{name}:{port}")
    return "amqp://" + (",".join(dict.fromkeys(hosts)) or "guest:guest@localhost:5672")
