//! URIs (RabbitMQ URI specification and URI query parameters), with several hosts.
//!
//! An error never repeats the URI, because that may hold a password.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::{
    Error, Result,
    credentials::Mechanism,
    options::{Host, Options},
    tls::TlsOptions,
};

/// What is said of TLS among the query parameters.
#[derive(Default)]
struct TlsParameters {
    given: Option<&'static str>,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    insecure: bool,
    server_name: Option<String>,
}

pub(crate) fn parse(uri: &str) -> Result<Options> {
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| {
        Error::invalid("the URI has no scheme: it begins with amqp://, amqps:// or memory://")
    })?;
    let (secure, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "amqp" => (false, 5672),
        "amqps" => (true, 5671),
        "memory" => return memory(rest),
        other => {
            return Err(Error::invalid(format!(
                "the URI's scheme is '{other}'; amqp, amqps and memory are known"
            )));
        }
    };
    if rest.contains('#') {
        return Err(Error::invalid(
            "the URI has a fragment ('#'); write %23 for a '#' in a name or password",
        ));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    let mut options = Options::new();
    if let Some(user_info) = user_info {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        options = options.credentials(decode("user name", user)?, decode("password", password)?);
    }
    for host in hosts.split(',') {
        options.hosts.push(parse_host(host, default_port)?);
    }
    // Without a path, and with an empty one, the default: a virtual host named "" is nothing anybody has.
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        if path.contains('/') {
            return Err(Error::invalid(
                "the URI's path has more than one segment; write %2f for a '/' in the virtual host's name",
            ));
        }
        options = options.vhost(decode("virtual host", path)?);
    }
    let mut tls = TlsParameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        options = parameter(options, &mut tls, pair)?;
    }
    if secure {
        options = options.tls(tls_options(tls)?);
    } else if let Some(name) = tls.given {
        return Err(Error::invalid(format!("the parameter '{name}' is about TLS: use it with amqps://")));
    }
    Ok(options)
}

fn memory(rest: &str) -> Result<Options> {
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ',']) {
        return Err(Error::invalid("a memory URI is memory://name, with nothing else in it"));
    }
    let name = decode("broker name", rest)?;
    #[cfg(feature = "broker")]
    {
        Ok(Err::<Options, _>(Error::invalid(format!("memory://{name} is not there yet")))?)
    }
    #[cfg(not(feature = "broker"))]
    {
        Err(Error::invalid(format!(
            "memory://{name} needs the embedded broker: build with the cargo feature 'broker'"
        )))
    }
}

fn parse_host(text: &str, default_port: u16) -> Result<Host> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest
            .split_once(']')
            .ok_or_else(|| Error::invalid("the URI has an IPv6 address without its closing bracket"))?;
        address
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| Error::invalid(format!("'{address}' in the URI is not an IPv6 address")))?;
        match after {
            "" => (address.to_owned(), None),
            _ => (address.to_owned(), Some(after.strip_prefix(':').ok_or_else(bad_port)?)),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        (decode("host", host)?, port)
    };
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(bad_port)?,
    };
    if host.is_empty() && (port != default_port || text.contains(':')) {
        return Err(Error::invalid("the URI has a port without a host"));
    }
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    Ok(Host { host, port })
}

fn bad_port() -> Error {
    Error::invalid(
        "the URI has a port that is no number from 1 to 65535; percent-encode ':', '/', '@' and '?' in user names and \
         passwords",
    )
}

fn parameter(options: Options, tls: &mut TlsParameters, pair: &str) -> Result<Options> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let key = decode("parameter", key)?;
    let value = decode(&key, value)?;
    let number = || {
        value.parse::<u64>().map_err(|_| {
            Error::invalid(format!("the URI's parameter '{key}' is '{value}', which is no number"))
        })
    };
    let small = || -> Result<u16> {
        u16::try_from(number()?)
            .map_err(|_| Error::invalid(format!("the URI's parameter '{key}' is over 65535")))
    };
    Ok(match key.as_str() {
        "heartbeat" => options.heartbeat(Duration::from_secs(small()?.into())),
        "connection_timeout" => options.connect_timeout(Duration::from_millis(number()?)),
        "channel_max" => options.channel_max(small()?),
        "frame_max" => options.frame_max(
            u32::try_from(number()?).map_err(|_| Error::invalid("the URI's frame_max is over 4 GiB"))?,
        ),
        "auth_mechanism" => options.mechanism(match value.to_ascii_lowercase().as_str() {
            "plain" => Mechanism::Plain,
            "amqplain" => Mechanism::AmqPlain,
            "external" => Mechanism::External,
            _ => {
                return Err(Error::invalid(format!(
                    "the URI's auth_mechanism is '{value}'; plain, amqplain and external are known"
                )));
            }
        }),
        "cacertfile" => {
            tls.given = Some("cacertfile");
            tls.ca = Some(value);
            options
        }
        "certfile" => {
            tls.given = Some("certfile");
            tls.certificate = Some(value);
            options
        }
        "keyfile" => {
            tls.given = Some("keyfile");
            tls.key = Some(value);
            options
        }
        "verify" => {
            tls.given = Some("verify");
            tls.insecure = match value.as_str() {
                "verify_peer" => false,
                "verify_none" => true,
                _ => {
                    return Err(Error::invalid(format!(
                        "the URI's verify is '{value}'; verify_peer and verify_none are known"
                    )));
                }
            };
            options
        }
        "server_name_indication" => {
            tls.given = Some("server_name_indication");
            tls.server_name = Some(value);
            options
        }
        _ => {
            return Err(Error::invalid(format!(
                "the URI's parameter '{key}' is not known; known are heartbeat, connection_timeout, channel_max, \
                 frame_max, auth_mechanism, cacertfile, certfile, keyfile, verify, server_name_indication"
            )));
        }
    })
}

fn tls_options(parameters: TlsParameters) -> Result<TlsOptions> {
    let mut tls = TlsOptions::new().insecure(parameters.insecure);
    if let Some(path) = parameters.ca {
        tls = tls.ca_file(path);
    }
    match (parameters.certificate, parameters.key) {
        (Some(certificate), Some(key)) => tls = tls.identity_files(certificate, key),
        (None, None) => {}
        _ => {
            return Err(Error::invalid("a client certificate needs both certfile and keyfile"));
        }
    }
    Ok(match parameters.server_name.as_deref() {
        None => tls,
        Some("disable") => tls.disable_sni(),
        Some(name) => tls.server_name(name),
    })
}

fn decode(what: &str, text: &str) -> Result<String> {
    let bytes = text.as_bytes();
    let whole =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
            bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
    if !whole {
        return Err(Error::invalid(format!(
            "the URI's {what} has a '%' without two hexadecimal digits; write %25 for a '%'"
        )));
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Error::invalid(format!("the URI's {what} is not UTF-8 when percent-decoded")))
}
