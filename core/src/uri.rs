//! URIs (`RabbitMQ` URI specification and URI query parameters), with several hosts.
//!
//! An error never repeats the URI, nor a part of it that could be a piece of a password in which a character was not
//! percent-encoded.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::{
    Error, Result,
    credentials::{CredentialSource, Credentials, Mechanism},
    options::{Host, Options, Transport},
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

/// Options from a URI; [`Options::from_uri`] says what is understood.
pub(crate) fn parse(uri: &str) -> Result<Options> {
    // Files and environment variables end with a newline.
    let uri = uri.trim_ascii();
    if uri.contains(|character: char| character.is_control()) {
        return Err(Error::invalid("the URI has a control character in it, a line break for instance"));
    }
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| {
        Error::invalid("the URI has no scheme: it begins with amqp://, amqps:// or memory://")
    })?;
    let (secure, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "amqp" => (false, 5672),
        "amqps" => (true, 5671),
        "memory" => return memory(rest),
        _ => return Err(Error::invalid("the URI's scheme is not known; amqp, amqps and memory are")),
    };
    if rest.contains('#') {
        return Err(Error::invalid(
            "the URI has a fragment ('#'); write %23 for a '#' in a name or password",
        ));
    }
    let (authority, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !authority.contains('@') && after.contains('@') {
        // Otherwise the user name would be taken for a host, and shown in errors with a piece of the password.
        return Err(Error::invalid(
            "the URI has an '@' after its hosts; percent-encode ':', '/', '@', '?' and '#' in user names and passwords",
        ));
    }
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    let path = path.strip_prefix('/').unwrap_or_default();
    let mut options = Options::new();
    if let Some(entries) = entries_with_credentials(authority)? {
        let mut all = Vec::new();
        for (user_info, host) in entries {
            let host = parse_host(host, default_port)?;
            if all.iter().any(|(known, _)| *known == host) {
                return Err(Error::invalid(format!("the URI has credentials for {host} twice")));
            }
            all.push((host, credentials(user_info)?));
        }
        options.hosts = all.iter().map(|(host, _)| host.clone()).collect();
        options.credentials = CredentialSource::PerHost(all);
    } else {
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        if let Some(user_info) = user_info {
            options.credentials = CredentialSource::Fixed(credentials(user_info)?);
        }
        for host in hosts.split(',') {
            if host.is_empty() && hosts.contains(',') {
                return Err(Error::invalid("the URI's list of hosts has an empty entry"));
            }
            options.hosts.push(parse_host(host, default_port)?);
        }
    }
    if !path.is_empty() {
        if path.contains('/') {
            return Err(Error::invalid(
                "the URI's path has more than one segment; write %2f for a '/' in the virtual host's name",
            ));
        }
        options = options.vhost(decode("virtual host", path)?);
    }
    let mut tls = TlsParameters::default();
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decode("parameter", key)?;
        let value = decode(&key, value)?;
        if seen.contains(&key) {
            // Further mechanisms are for peers that do not offer the first: ours is one.
            if key == "auth_mechanism" {
                mechanism(&value)?;
                continue;
            }
            return Err(Error::invalid(format!("the URI's parameter '{key}' is given twice")));
        }
        options = parameter(options, &mut tls, &key, value)?;
        seen.push(key);
    }
    if secure {
        options = options.tls(tls_options(tls)?);
    } else if let Some(name) = tls.given {
        return Err(Error::invalid(format!("the parameter '{name}' is about TLS: use it with amqps://")));
    }
    Ok(options)
}

/// User info and host of each entry, where the hosts have credentials of their own (OpenStack's `transport_url`).
fn entries_with_credentials(authority: &str) -> Result<Option<Vec<(&str, &str)>>> {
    if authority.matches('@').count() < 2 || !authority.contains(',') {
        return Ok(None);
    }
    let entries = authority.split(',').map(|entry| match entry.split_once('@') {
        Some((user_info, host)) if user_info.contains(':') && !host.contains('@') => Some((user_info, host)),
        _ => None,
    });
    // Otherwise a piece of a password could be taken for a host, and another sent to it.
    entries.collect::<Option<Vec<_>>>().map(Some).ok_or_else(|| {
        Error::invalid(
            "the URI has several '@' and a ',' before its path: either each host has user:password@ before it or only the \
             first one; percent-encode ',' and '@' in user names and passwords",
        )
    })
}

/// As in RabbitMQ's own clients, a user without a password has the default one.
fn credentials(user_info: &str) -> Result<Credentials> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, "guest"));
    Ok(Credentials::new(decode("user name", user)?, decode("password", password)?))
}

fn memory(rest: &str) -> Result<Options> {
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ',', ':']) {
        return Err(Error::invalid("a memory URI is memory://name, with nothing else in it"));
    }
    let name = decode("broker name", rest)?;
    if cfg!(not(feature = "broker")) {
        return Err(Error::invalid(format!(
            "memory://{name} needs the embedded broker: build with the cargo feature 'broker'"
        )));
    }
    let mut options = Options::new().host(name.clone(), 0);
    options.transport = Transport::Memory(name);
    Ok(options)
}

fn parse_host(text: &str, default_port: u16) -> Result<Host> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest
            .split_once(']')
            .ok_or_else(|| Error::invalid("the URI has an IPv6 address without its closing bracket"))?;
        address
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| Error::invalid("what is in brackets in the URI is not an IPv6 address"))?;
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
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    Ok(Host { host, port })
}

fn bad_port() -> Error {
    Error::invalid(
        "the URI has a port that is no number from 1 to 65535; percent-encode ':', '/', '@' and '?' in user names and \
         passwords",
    )
}

fn mechanism(name: &str) -> Result<Mechanism> {
    match name.to_ascii_lowercase().as_str() {
        "plain" => Ok(Mechanism::Plain),
        "amqplain" => Ok(Mechanism::AmqPlain),
        "external" => Ok(Mechanism::External),
        _ => Err(Error::invalid(format!(
            "the URI's auth_mechanism is '{name}'; plain, amqplain and external are known"
        ))),
    }
}

fn parameter(options: Options, tls: &mut TlsParameters, key: &str, value: String) -> Result<Options> {
    let number = || {
        value.parse::<u64>().map_err(|_| {
            Error::invalid(format!("the URI's parameter '{key}' is '{value}', which is no number"))
        })
    };
    let small = || -> Result<u16> {
        u16::try_from(number()?)
            .map_err(|_| Error::invalid(format!("the URI's parameter '{key}' is over 65535")))
    };
    Ok(match key {
        "heartbeat" => options.heartbeat(Duration::from_secs(small()?.into())),
        "connection_timeout" => options.connect_timeout(Duration::from_millis(number()?)),
        "channel_max" => options.channel_max(small()?),
        "frame_max" => options.frame_max(
            u32::try_from(number()?).map_err(|_| Error::invalid("the URI's frame_max is over 4 GiB"))?,
        ),
        "auth_mechanism" => options.mechanism(mechanism(&value)?),
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

#[cfg(test)]
mod tests;
