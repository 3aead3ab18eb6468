//! What is understood, what is refused, and that no refusal shows a password.

use std::time::Duration;

use super::parse;
use crate::{
    ErrorKind,
    credentials::{CredentialSource, Mechanism},
    options::{Host, Options, Recovery, Transport},
};

fn accepted(uri: &str) -> Options {
    parse(uri).unwrap_or_else(|error| panic!("{uri}: {error}"))
}

fn refused(uri: &str) -> String {
    let error = parse(uri).and_then(Options::complete).expect_err(uri);
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{uri}");
    error.to_string()
}

fn login(options: &Options) -> (String, String) {
    match &options.credentials {
        CredentialSource::Fixed(credentials) => {
            (credentials.username.clone(), credentials.password.to_string())
        }
        CredentialSource::PerHost(_) | CredentialSource::Callback(_) => panic!("not one login for all"),
    }
}

#[test]
fn hosts_ports_users_and_virtual_hosts() {
    // The examples of RabbitMQ's URI specification, appendix A, and more.
    #[rustfmt::skip]
    let table = [
        // URI, user name, password, hosts, virtual host
        ("amqp://user:pass@host:10000/vhost", "user", "pass", "host:10000", "vhost"),
        ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast:10000", "v/host"),
        ("amqp://", "guest", "guest", "localhost:5672", "/"),
        ("amqp://:@/", "", "", "localhost:5672", "/"),
        ("amqp://user@", "user", "guest", "localhost:5672", "/"),
        ("amqp://user:@", "user", "", "localhost:5672", "/"),
        ("amqp://user:pass@", "user", "pass", "localhost:5672", "/"),
        ("amqp://host", "guest", "guest", "host:5672", "/"),
        ("amqp://:10000", "guest", "guest", "localhost:10000", "/"),
        ("amqp:///vhost", "guest", "guest", "localhost:5672", "vhost"),
        ("amqp://host/", "guest", "guest", "host:5672", "/"),
        ("amqp://host/%2f", "guest", "guest", "host:5672", "/"),
        ("amqp://[::1]", "guest", "guest", "[::1]:5672", "/"),
        ("amqp://[::1]:5/%2F", "guest", "guest", "[::1]:5", "/"),
        ("AMQP://host", "guest", "guest", "host:5672", "/"),
        ("amqps://host", "guest", "guest", "host:5671", "/"),
        ("amqp://a:1,b,[::1]:5/v", "guest", "guest", "a:1 b:5672 [::1]:5", "v"),
        ("amqps://u:p@a,b:7", "u", "p", "a:5671 b:7", "/"),
        ("amqp://u:p%40%3a%2F%3f%23%25+@h", "u", "p@:/?#%+", "h:5672", "/"),
        ("amqp://u:p:q@h", "u", "p:q", "h:5672", "/"),
        ("amqp://u:p@q@h", "u", "p@q", "h:5672", "/"),
        ("amqp://%C3%BC:%C3%B6@h/%C3%A4", "ü", "ö", "h:5672", "ä"),
        ("amqp://u:p@h/v@w", "u", "p", "h:5672", "v@w"),
        ("amqp://h?heartbeat=5", "guest", "guest", "h:5672", "/"),
        ("amqp://h/v?", "guest", "guest", "h:5672", "v"),
    ];
    for (uri, user, password, hosts, vhost) in table {
        let options = accepted(uri);
        assert_eq!(login(&options), (user.to_owned(), password.to_owned()), "{uri}");
        let found: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), hosts, "{uri}");
        assert_eq!(options.vhost, vhost, "{uri}");
        assert_eq!(options.tls.is_some(), uri.starts_with("amqps"), "{uri}");
        assert_eq!(options.transport, Transport::Tcp, "{uri}");
        options.complete().unwrap_or_else(|error| panic!("{uri}: {error}"));
    }
}

#[test]
fn white_space_around_a_uri_is_no_part_of_it() {
    // As files and environment variables have it.
    for uri in [
        "amqp://u:p@h:5/v\n",
        "amqp://u:p@h:5/v\r\n",
        " \tamqp://u:p@h:5/v ",
        "amqp://u:p@h:5\n",
        "amqp://h/\n",
    ] {
        let options = accepted(uri);
        let vhost = if uri.contains("/v") { "v" } else { "/" };
        assert_eq!((options.vhost.as_str(), options.hosts.len()), (vhost, 1), "{uri:?}");
    }
    for uri in ["amqp://h\n/v", "amqp://h1\namqp://h2", "amqp://u:p\n@h", "amqp://h/v\0"] {
        refused(uri);
    }
}

#[test]
fn hosts_may_have_credentials_of_their_own() {
    let options = accepted("amqp://u:p@h1:5672,u:p@h2:5673/vh");
    assert_eq!(options.vhost, "vh");
    let options = accepted("amqps://one:a%2Cb@h1,two:c%40d@[::1]:7?heartbeat=5").complete().unwrap();
    assert_eq!(options.hosts, [Host::new("h1", 5671), Host::new("::1", 7)]);
    let CredentialSource::PerHost(all) = &options.credentials else { panic!("{options:?}") };
    let found: Vec<_> =
        all.iter().map(|(host, one)| (host.port, one.username.as_str(), one.password.as_str())).collect();
    assert_eq!(found, [(5671, "one", "a,b"), (7, "two", "c@d")]);
    let shown = format!("{:?}", accepted("amqp://u:hunter2@h1,u:hunter2@h2"));
    assert!(!shown.contains("hunter2"), "{shown}");

    // What is said later replaces it.
    assert_eq!(login(&accepted("amqp://u:p@a,u:p@b").credentials("x", "y")), ("x".into(), "y".into()));
    let error = accepted("amqp://u:p@a,u:p@b").host("c", 1).complete().expect_err("it has no credentials");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);

    // What could be read in two ways is not: a piece of a password would be sent to a host.
    for uri in [
        "amqp://u:hunter2@h1,h2,u:hunter2@h3",
        "amqp://u:hunter2@h1,u@h2",
        "amqp://u:hunter,2@x@h",
        "amqp://h1,u:hunter2@h2,u:p@h3",
        "amqp://u:hunter2@h1,u:hunter2@h1",
        "amqp://u:p@h1,,u:hunter2@h2",
        "amqp://u:p@h@hunter2,u:p@h2",
    ] {
        let text = refused(uri);
        assert!(!text.contains("hunter2"), "{uri}: {text}");
    }
}

#[test]
fn parameters() {
    let options = accepted(
        "amqp://h?heartbeat=7&connection_timeout=1500&channel_max=12&frame_max=8192&auth_mechanism=AMQPLAIN",
    );
    assert_eq!(options.heartbeat, Duration::from_secs(7));
    assert_eq!(options.connect_timeout, Duration::from_millis(1500));
    assert_eq!(options.channel_max, 12);
    assert_eq!(options.frame_max, 8192);
    assert_eq!(options.mechanism, Mechanism::AmqPlain);

    let first = accepted("amqp://h?auth_mechanism=external&auth_mechanism=plain");
    assert_eq!(first.mechanism, Mechanism::External);
    assert_eq!(accepted("amqp://h?heartbeat=0").heartbeat, Duration::ZERO);
    assert_eq!(accepted("amqp://h?&&heart%62eat=%37&").heartbeat, Duration::from_secs(7));
}

#[test]
fn tls_parameters() {
    let options = accepted(
        "amqps://h?cacertfile=/etc/ca.pem&certfile=c.pem&keyfile=k.pem&verify=verify_none&server_name_indication=name",
    );
    let shown = format!("{:?}", options.tls.expect("amqps has TLS"));
    for part in ["own_ca: true", "client_certificate: true", "insecure: true", "Some(\"name\")"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    for query in ["verify=verify_peer", "server_name_indication=disable", ""] {
        let shown = format!("{:?}", accepted(&format!("amqps://h?{query}")).tls);
        assert!(shown.contains("insecure: false") && shown.contains("server_name: None"), "{shown}");
    }
}

#[test]
fn memory_uris_name_a_broker() {
    if cfg!(feature = "broker") {
        let options = accepted("memory://my%20broker");
        assert_eq!(options.transport, Transport::Memory("my broker".into()));
        assert_eq!(options.hosts, [Host::new("my broker", 0)]);
    } else {
        refused("memory://broker");
    }
    for uri in ["memory://", "memory://a/b", "memory://a?heartbeat=1", "memory://u:p@a", "memory://a,b"] {
        refused(uri);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for uri in [
        "",
        "host",
        "host:5672",
        "http://host",
        "amqp:/host",
        "amqp://host#fragment",
        "amqp://host/a/b",
        "amqp://host//",
        "amqp://host:",
        "amqp://host:0",
        "amqp://host:65536",
        "amqp://host:port",
        "amqp://a:1:2",
        "amqp://::1",
        "amqp://[::1",
        "amqp://[::1]5672",
        "amqp://[host]",
        "amqp://[127.0.0.1]",
        "amqp://a,,b",
        "amqp://a,",
        "amqp://u%:p@h",
        "amqp://u:p%2@h",
        "amqp://u:p%zz@h",
        "amqp://u:%ff@h",
        "amqp://u:%00@h",
        "amqp://h/%ff",
        "amqp://h/%c3",
        "amqp://h%e4",
        "amqp://h?heartbeat",
        "amqp://h?heartbeat=",
        "amqp://h?heartbeat=-1",
        "amqp://h?heartbeat=1.5",
        "amqp://h?heartbeat=65536",
        "amqp://h?heartbeat=1&heartbeat=2",
        "amqp://h?connection_timeout=0",
        "amqp://h?channel_max=65536",
        "amqp://h?frame_max=0",
        "amqp://h?frame_max=4095",
        "amqp://h?frame_max=4294967296",
        "amqp://h?auth_mechanism=",
        "amqp://h?auth_mechanism=digest",
        "amqp://h?auth_mechanism=plain&auth_mechanism=digest",
        "amqps://h?verify=none",
        "amqps://h?certfile=c.pem",
        "amqps://h?keyfile=k.pem",
    ] {
        refused(uri);
    }
    // Where the name of the parameter is what the reader needs.
    for (uri, name) in [
        ("amqp://h?hartbeat=5", "hartbeat"),
        ("amqps://h?depth=3", "depth"),
        ("amqp://h?verify=verify_none", "verify"),
        ("amqp://h?cacertfile=ca.pem", "cacertfile"),
        ("amqp://h?server_name_indication=disable", "server_name_indication"),
    ] {
        assert!(refused(uri).contains(name), "{uri}");
    }
}

#[test]
fn no_error_shows_a_password() {
    // Passwords whose special characters were not encoded, so that their pieces end up where other things belong.
    for uri in [
        "amqp://user:hunter2/x@host",
        "amqp://user:12/hunter2@host",
        "amqp://user:12/a/hunter2@host",
        "amqp://user:12?hunter2@host",
        "amqp://user:12?hunter2=1@host",
        "amqp://user:hunter2#x@host",
        "amqp://user:1,[hunter2]/x@host",
        "amqp://user:1,hunter2:x/x@host",
        "amqp://user:hunter2%@host",
        "amqp://user:hunter2%ff@host",
        "amqp://user:hunter2@host:port",
        "amqp://user:hunter2@host/a/b",
        "amqp://user:hunter2@host?unknown=1",
        "user:hunter2://host",
        "memory://user:hunter2@name",
    ] {
        let text = refused(uri);
        assert!(!text.contains("hunter2"), "{uri}: {text}");
    }
    let shown = format!("{:?}", accepted("amqps://user:hunter2@host"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn endless_timeouts_are_bounded() {
    let options =
        accepted("amqp://h?connection_timeout=18446744073709551615").operation_timeout(Duration::MAX);
    let options = options.recovery(Recovery {
        initial_delay: Duration::MAX,
        max_delay: Duration::MAX,
        refused_for: Duration::MAX,
        ..Recovery::default()
    });
    let options = options.complete().expect("long timeouts are fine");
    let recovery = options.recovery;
    let now = std::time::Instant::now();
    for limit in [
        options.connect_timeout,
        options.operation_timeout,
        recovery.initial_delay * 2,
        recovery.max_delay,
        recovery.refused_for,
    ] {
        assert!(now.checked_add(limit).is_some());
    }
}

#[test]
fn an_embedded_broker_has_no_other_hosts() {
    if cfg!(feature = "broker") {
        let options = accepted("memory://broker").hosts([crate::Host::new("rabbit-1", 5672)]);
        let error = options.complete().expect_err("they would be ignored");
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{error}");
    }
}
