//! What the arguments of other libraries (pika, aio-pika, kombu, Celery) are called here. `docs/from-other-clients.md` has more.

/// Method, names elsewhere, and what to do here. The first that fits is taken.
const HINTS: &[(&str, &[&str], &str)] = &[
    (
        "connect",
        &["host", "hostname", "hosts_list", "nodes"],
        "the brokers are hosts: \"name\", \"name:port\" or (\"name\", port)",
    ),
    ("connect", &["port"], "the port goes with its host: hosts=(\"name\", port)"),
    ("connect", &["login", "user", "userid", "user_id"], "the user's name is username"),
    ("connect", &["passwd", "secret"], "it is password"),
    ("connect", &["virtual_host", "virtualhost"], "the virtual host is vhost"),
    ("connect", &["url", "broker_url", "parameters", "dsn"], "the URI is the first argument"),
    (
        "connect",
        &["ssl", "ssl_options", "ssl_context", "use_ssl", "broker_use_ssl", "secure"],
        "TLS is amqps://, or tls=True with ca_file, cert_file and key_file",
    ),
    ("connect", &["cafile", "ca_certs", "cacertfile", "cacert"], "it is ca_file"),
    ("connect", &["cadata"], "it is ca_pem"),
    ("connect", &["certfile"], "it is cert_file"),
    ("connect", &["keyfile"], "it is key_file"),
    ("connect", &["check_hostname"], "it is verify_hostname"),
    ("connect", &["server_hostname"], "it is server_name"),
    ("connect", &["cert_reqs", "no_verify_ssl", "verify"], "insecure=True accepts any certificate"),
    (
        "connect",
        &["login_method", "auth_mechanism", "auth"],
        "it is mechanism: \"plain\", \"amqplain\" or \"external\"",
    ),
    ("connect", &["heartbeat_interval", "requested_heartbeat"], "it is heartbeat, in seconds"),
    (
        "connect",
        &["socket_timeout", "stack_timeout", "connection_timeout", "broker_connection_timeout"],
        "it is connect_timeout; timeout is that of every other operation",
    ),
    (
        "connect",
        &["read_timeout", "write_timeout", "blocked_connection_timeout", "rpc_timeout"],
        "it is timeout",
    ),
    (
        "connect",
        &[
            "connection_attempts",
            "retry_delay",
            "max_retries",
            "reconnect_interval",
            "fail_fast",
            "transport_options",
            "failover_strategy",
            "connect_max_retries",
        ],
        "see recovery=Recovery(max_attempts=…, max_delay=…) and retry_initial",
    ),
    ("connect", &["name", "client_name"], "it is connection_name"),
    ("connect", &["publisher_confirms", "confirm_publish"], "publishes are always confirmed"),
    ("connect", &["loop", "event_loop", "io_loop"], "it runs in the loop that awaits it"),
    ("publish", &["delivery_mode"], "it is persistent: True for 2, False for 1"),
    ("publish", &["properties"], "give each property by its name: headers=…, content_type=…"),
    ("publish", &["message", "payload", "data"], "the body is the first argument"),
    (
        "publish",
        &["queue", "queue_name"],
        "a queue is published to by routing_key=its name, without exchange",
    ),
    ("publish", &["routing", "key"], "it is routing_key"),
    ("publish", &["ttl"], "it is expiration, in seconds"),
    ("publish", &["immediate"], "RabbitMQ does not know immediate"),
    ("publish", &["serializer"], "a dict or list is sent as JSON; give bytes for anything else"),
    (
        "publish",
        &["retry", "retry_policy", "declare"],
        "what is not confirmed is sent again by itself after a reconnect",
    ),
    ("declare_queue", &["passive"], "queue_info(name) looks without declaring"),
    ("declare_queue", &["queue", "queue_name"], "the queue's name is name"),
    ("declare_queue", &["queue_arguments"], "it is arguments"),
    (
        "declare_queue",
        &["x_expires", "ttl"],
        "expires is the queue's life without use, message_ttl that of messages, in seconds",
    ),
    ("declare_queue", &["queue_type", "x_queue_type"], "it is type: \"classic\", \"quorum\" or \"stream\""),
    ("declare_queue", &["priority", "x_max_priority"], "it is max_priority"),
    (
        "declare_queue",
        &["dlx", "deadletter", "dead_letter"],
        "they are dead_letter_exchange and dead_letter_routing_key",
    ),
    (
        "declare_queue",
        &["exchange", "routing_key", "binding_key", "bindings"],
        "bind(queue, exchange, routing_key) binds it",
    ),
    ("declare_queue", &["nowait", "no_wait", "robust"], "leave it out"),
    ("declare_exchange", &["passive"], "check_exchange(name) looks without declaring"),
    ("declare_exchange", &["exchange", "exchange_name"], "the exchange's name is name"),
    ("declare_exchange", &["exchange_type", "kind"], "it is type"),
    ("declare_exchange", &["delivery_mode", "nowait", "no_wait", "robust"], "leave it out"),
    ("consume", &["auto_ack", "noack"], "it is no_ack"),
    ("consume", &["prefetch_count", "qos"], "it is prefetch, in messages"),
    ("consume", &["prefetch_size", "no_local"], "RabbitMQ does not know it"),
    ("consume", &["consumer_tag"], "it is tag"),
    ("consume", &["queues", "queue_name"], "one consumer has one queue, the first argument"),
    (
        "consume",
        &["callback", "callbacks", "on_message", "on_message_callback", "consumer_callback", "handler"],
        "iterate over what it returns: for delivery in client.consume(queue)",
    ),
    ("consume", &["inactivity_timeout"], "give a timeout to get() of what it returns"),
    ("consume", &["accept"], "delivery.json() reads JSON; delivery.body has the bytes"),
];

/// What to do instead of giving `method` the argument `key`.
pub fn of(method: &str, key: &str) -> Option<&'static str> {
    let (_, _, hint) = HINTS.iter().find(|(of, names, _)| *of == method && names.contains(&key))?;
    Some(hint)
}
