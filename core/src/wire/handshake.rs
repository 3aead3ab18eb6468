//! From a byte stream to an open connection (AMQP 0-9-1 section 2.2.4).
//!
//! The file is long because each way in which a peer fails the handshake has its error here.

use std::{sync::Arc, time::Duration};

use amq_protocol::{
    protocol::{
        AMQPClass,
        connection::{AMQPMethod, Close, CloseOk, Open, Start, StartOk, Tune, TuneOk},
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    encode,
    frame::{Frame, FrameReader, Violation},
    stream::Stream,
};
use crate::{
    Error, ErrorKind, Result,
    credentials::{Credentials, Mechanism, sasl_response},
    error::Reply,
    options::Options,
    tls,
};

/// Before `connection.tune` a frame may have 4 KiB by the protocol; RabbitMQ's server properties may need more.
const FRAME_MAX_BEFORE_TUNE: u32 = 128 * 1024;

/// The code of a virtual host that is not there or not permitted, and of a limit on connections.
const NOT_ALLOWED: u16 = 530;

/// The least `frame_max` a peer may ask for (AMQP 0-9-1 section 1.4.2.6.2, frame-min-size).
const FRAME_MIN: u32 = 4096;

/// What `RabbitMQ` 4.1 and later ask for at least, and end the connection over, some seconds later and without a word.
const FRAME_MIN_SINCE_4_1: u32 = 8192;

/// What to do when a login with EXTERNAL is refused.
const CERTIFICATE_LOGIN: &str = "the broker takes the user from the client certificate (ssl_cert_login_from): there must be a \
                                 user of that name";

/// The first bytes of TLS records: an alert, which answers a protocol header, and a handshake message.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// A connection after `connection.open-ok`, with what was agreed on.
pub(crate) struct Opened {
    pub stream: Stream,
    pub frames: FrameReader,
    pub frame_max: u32,
    pub channel_max: u16,
    /// Zero when there are none.
    pub heartbeat: Duration,
    pub server: Arc<ServerInfo>,
}

/// What the broker said of itself in `connection.start` (AMQP 0-9-1 section 1.4.2.1).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The protocol's version: 0 and 9.
    pub version: (u8, u8),
    /// Product, version, capabilities and the like.
    pub properties: FieldTable,
    /// The SASL mechanisms it offers, separated by spaces.
    pub mechanisms: String,
    /// The locales it offers, separated by spaces.
    pub locales: String,
}

/// How far a handshake has come, and what the broker said there: for `doctor`, which reports each step by itself.
#[cfg_attr(not(feature = "doctor"), allow(dead_code))]
pub(crate) enum Stage<'a> {
    /// The broker introduced itself.
    Start(&'a Start),
    /// The broker accepted the login of this user, and proposes limits.
    Tune(&'a str),
    /// The virtual host is open, within the limits that were agreed on.
    Open(&'a TuneOk),
}

/// Hears of each stage.
pub(crate) type Observer = Arc<dyn Fn(Stage<'_>) + Send + Sync>;

/// Opens a connection on `stream`, until `deadline` at the latest.
pub(crate) async fn open(
    stream: Stream,
    options: &Options,
    credentials: &Credentials,
    deadline: Instant,
) -> Result<Opened> {
    let mut peer = Peer {
        stream,
        frames: FrameReader::new(FRAME_MAX_BEFORE_TUNE),
        out: Vec::new(),
        began: Instant::now(),
        deadline,
        first: None,
    };
    let start = match peer.greet().await {
        Ok(AMQPMethod::Start(start)) => start,
        Ok(other) => return Err(peer.unexpected(&other, "connection.start")),
        Err(error) => return Err(peer.no_start(error, options.tls.is_some())),
    };
    let observe = |stage: Stage<'_>| {
        if let Some(observer) = &options.observer {
            observer(stage);
        }
    };
    observe(Stage::Start(&start));
    let offered = start.mechanisms.to_string();
    let mechanism = options.mechanism.name();
    if !offered.split_ascii_whitespace().any(|offer| offer == mechanism) {
        let advice = if options.mechanism == Mechanism::External {
            "; RabbitMQ offers EXTERNAL over TLS, to clients that show a certificate, with the plugin \
             rabbitmq_auth_mechanism_ssl and EXTERNAL among its auth_mechanisms"
        } else {
            "; choose another mechanism, or add it to the broker's auth_mechanisms"
        };
        return Err(Error::new(
            ErrorKind::Authentication,
            format!("{}: the broker offers the mechanisms {offered}, not {mechanism}{advice}", peer.name()),
        ));
    }
    let start_ok = StartOk {
        client_properties: client_properties(options),
        mechanism: mechanism.into(),
        response: sasl_response(options.mechanism, credentials),
        locale: "en_US".into(),
    };
    peer.send(AMQPMethod::StartOk(start_ok)).await?;

    let tune = match peer.read("login").await {
        Ok(AMQPMethod::Tune(tune)) => tune,
        Ok(AMQPMethod::Close(close)) => {
            let (what, advice) = match options.mechanism {
                Mechanism::External => ("login by the client certificate".to_owned(), CERTIFICATE_LOGIN),
                _ => (format!("login as '{}'", credentials.username), "check user name and password"),
            };
            return Err(peer.refused(close, &what, Some(advice)).await);
        }
        Ok(AMQPMethod::Secure(_)) => {
            return Err(Error::new(
                ErrorKind::Authentication,
                format!("{}: the broker sent a challenge, which {mechanism} does not have", peer.name()),
            ));
        }
        Ok(other) => return Err(peer.unexpected(&other, "connection.tune")),
        Err(error) if error.kind() == ErrorKind::ConnectionLost => {
            // What a broker without `authentication_failure_close` does (RabbitMQ, access control).
            return Err(Error::new(
                ErrorKind::Authentication,
                format!(
                    "{}: the broker closed the connection during the login as '{}': check user name and password",
                    peer.name(),
                    credentials.username
                ),
            )
            .with_source(error));
        }
        Err(error) => return Err(error),
    };
    observe(Stage::Tune(&credentials.username));
    let agreed = negotiate(&tune, options)?;
    peer.frames.set_frame_max(agreed.frame_max);
    encode::method(&mut peer.out, 0, &AMQPClass::Connection(AMQPMethod::TuneOk(agreed.clone())));
    let virtual_host = ShortString::try_new(options.vhost.clone())
        .map_err(|_| Error::invalid("the virtual host's name is over 255 bytes"))?;
    peer.send(AMQPMethod::Open(Open { virtual_host })).await?;

    let what = format!("virtual host '{}'", options.vhost);
    match peer.read(&format!("opening {what}")).await {
        Ok(AMQPMethod::OpenOk(_)) => {}
        Ok(AMQPMethod::Close(close)) => return Err(peer.refused(close, &what, None).await),
        Ok(other) => return Err(peer.unexpected(&other, "connection.open-ok")),
        Err(error)
            if agreed.frame_max < FRAME_MIN_SINCE_4_1
                && matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::ConnectFailed) =>
        {
            return Err(error.within(&format!(
                "frame_max is {}, and RabbitMQ 4.1 and later want {FRAME_MIN_SINCE_4_1} at least",
                agreed.frame_max
            )));
        }
        Err(error) => return Err(error),
    }
    observe(Stage::Open(&agreed));
    let server = ServerInfo {
        version: (start.version_major, start.version_minor),
        properties: start.server_properties,
        mechanisms: offered,
        locales: start.locales.to_string(),
    };
    Ok(Opened {
        server: Arc::new(server),
        stream: peer.stream,
        frames: peer.frames,
        frame_max: agreed.frame_max,
        channel_max: agreed.channel_max,
        heartbeat: Duration::from_secs(agreed.heartbeat.into()),
    })
}

/// The lower of both values; zero from the server means no limit (AMQP 0-9-1 section 1.4.2.5). A heartbeat of zero in
/// the options turns heartbeats off, whatever the server proposes.
fn negotiate(tune: &Tune, options: &Options) -> Result<TuneOk> {
    if tune.frame_max != 0 && tune.frame_max < FRAME_MIN {
        return Err(Error::protocol(format!(
            "the broker asks for frame_max {}; AMQP 0-9-1 has at least {FRAME_MIN}",
            tune.frame_max
        )));
    }
    let frame_max =
        if tune.frame_max == 0 { options.frame_max } else { tune.frame_max.min(options.frame_max) };
    let channel_max = match (tune.channel_max, options.channel_max) {
        (0, ours) => ours,
        (theirs, 0) => theirs,
        (theirs, ours) => theirs.min(ours),
    };
    let wish = u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX);
    let heartbeat = if wish == 0 || tune.heartbeat == 0 { wish } else { wish.min(tune.heartbeat) };
    Ok(TuneOk { channel_max, frame_max, heartbeat })
}

fn client_properties(options: &Options) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    properties.insert("product".into(), text("murano-messaging"));
    properties.insert("version".into(), text(env!("CARGO_PKG_VERSION")));
    properties.insert("platform".into(), text("Rust"));
    if let Some(name) = &options.connection_name {
        properties.insert("connection_name".into(), text(name));
    }
    for (key, value) in &options.client_properties {
        properties.insert(key.clone(), value.clone());
    }
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

/// The error for a peer that broke the protocol.
pub(crate) fn violation(peer: &str, violation: &Violation) -> Error {
    Error::protocol(format!("{peer}: {} (AMQP reply code {})", violation.text, violation.code))
}

struct Peer {
    stream: Stream,
    frames: FrameReader,
    out: Vec<u8>,
    began: Instant,
    deadline: Instant,
    /// The first byte that the peer sent.
    first: Option<u8>,
}

impl Peer {
    async fn greet(&mut self) -> Result<AMQPMethod> {
        self.out.extend_from_slice(&encode::PROTOCOL_HEADER);
        self.write().await?;
        self.read("waiting for connection.start").await
    }

    /// The error for a peer that did not begin as a broker does: it is no broker, or it speaks another protocol.
    fn no_start(&self, error: Error, secure: bool) -> Error {
        let place = self.name();
        let text = match self.first {
            Some(first) if TLS_RECORDS.contains(&first) && !secure => {
                format!("{place}: the peer speaks TLS on that port: connect with amqps:// (or Options::tls)")
            }
            _ if error.kind() != ErrorKind::ConnectionLost => return error,
            None if !secure => format!(
                "{error}; is it a TLS port (then connect with amqps://), or a proxy that does not reach its broker?"
            ),
            _ => format!("{error}; is it a proxy that does not reach its broker?"),
        };
        Error::new(ErrorKind::ConnectFailed, text).with_source(error)
    }

    fn no_answer(&self, doing: &str) -> Error {
        let waited = self.began.elapsed().as_secs_f64();
        let place = self.name();
        Error::new(
            ErrorKind::ConnectFailed,
            format!("{place}: no answer within {waited:.1} s while {doing}; does RabbitMQ listen there?"),
        )
    }

    fn name(&self) -> &str {
        &self.stream.peer
    }

    fn io_error(&self, error: std::io::Error, doing: &str) -> Error {
        if let Some(error) = tls::tls_error(&error, self.name()) {
            return error;
        }
        Error::new(
            ErrorKind::ConnectionLost,
            format!("{}: the connection was lost while {doing}: {}", self.name(), tls::io_reason(&error)),
        )
        .with_source(error)
    }

    async fn write(&mut self) -> Result<()> {
        // It has the password.
        let out = Zeroizing::new(std::mem::take(&mut self.out));
        let write = async {
            self.stream.write.write_all(&out).await?;
            self.stream.write.flush().await
        };
        let Ok(written) = timeout_at(self.deadline, write).await else {
            return Err(self.no_answer("writing to it"));
        };
        match written {
            Ok(()) => Ok(()),
            // The reason is often in what the peer wrote before it closed.
            Err(error) if self.frames.buffer().is_empty() => match self.read("connecting").await {
                Err(read) if read.kind() == ErrorKind::Tls => Err(read),
                _ => Err(self.io_error(error, "connecting")),
            },
            Err(error) => Err(self.io_error(error, "connecting")),
        }
    }

    async fn send(&mut self, method: AMQPMethod) -> Result<()> {
        encode::method(&mut self.out, 0, &AMQPClass::Connection(method));
        self.write().await
    }

    async fn read(&mut self, doing: &str) -> Result<AMQPMethod> {
        loop {
            match self.frames.next() {
                Ok(Some(Frame::Method(0, AMQPClass::Connection(method)))) => return Ok(method),
                Ok(Some(Frame::Heartbeat)) => continue,
                Ok(Some(_)) => {
                    return Err(Error::protocol(format!(
                        "{}: a frame that does not belong there while {doing}",
                        self.stream.peer
                    )));
                }
                Ok(None) => {}
                Err(fault) => return Err(violation(&self.stream.peer, &fault)),
            }
            let buffer = self.frames.buffer();
            buffer.reserve(4096);
            let Ok(read) = timeout_at(self.deadline, self.stream.read.read_buf(buffer)).await else {
                return Err(self.no_answer(doing));
            };
            self.first = self.first.or_else(|| self.frames.buffer().first().copied());
            match read {
                Ok(0) => {
                    return Err(Error::new(
                        ErrorKind::ConnectionLost,
                        format!("{}: the peer closed the connection while {doing}", self.name()),
                    ));
                }
                Ok(_) => {}
                Err(error) => return Err(self.io_error(error, doing)),
            }
        }
    }

    fn unexpected(&self, method: &AMQPMethod, wanted: &str) -> Error {
        let id = AMQPClass::Connection(method.clone()).get_amqp_method_id();
        Error::protocol(format!("{}: connection method {id} where {wanted} was expected", self.name()))
    }

    /// The broker refused the login or the virtual host, and waits for a last word.
    async fn refused(&mut self, close: Close, what: &str, login: Option<&str>) -> Error {
        // The connection is over either way.
        let _ = self.send(AMQPMethod::CloseOk(CloseOk {})).await;
        let what = format!("{}: {what}", self.name());
        refusal(&what, &close, login)
    }
}

/// The error for a `connection.close` while a connection is being opened. `login` is the advice for a refused login;
/// `None` after the login.
fn refusal(what: &str, close: &Close, login: Option<&str>) -> Error {
    let reply = Reply {
        code: close.reply_code,
        text: close.reply_text.to_string(),
        class_id: close.class_id,
        method_id: close.method_id,
    };
    let text = &reply.text;
    let kind = match reply.code {
        403 => ErrorKind::Authentication,
        NOT_ALLOWED if is_limit(text) => ErrorKind::LimitReached,
        402 => ErrorKind::VhostRefused,
        NOT_ALLOWED if login.is_none() => ErrorKind::VhostRefused,
        _ => return Error::from_reply(what, reply),
    };
    let advice = match kind {
        ErrorKind::Authentication => login.unwrap_or("check user name and password"),
        ErrorKind::VhostRefused => "check the virtual host's name and the user's permissions",
        _ => "",
    };
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    Error::new(kind, format!("{what}: the broker answered {} {text}{advice}", reply.code)).with_reply(reply)
}

/// Whether a refusal with 530 is over a limit on connections. `RabbitMQ` has no code for that; its texts end with
/// "connection limit (N) is reached" (of the node, the virtual host, the user), where no name can stand: a name at the end is in
/// quotes or has "not found" behind it.
fn is_limit(text: &str) -> bool {
    let count = text.strip_suffix(") is reached").and_then(|text| text.rsplit_once("connection limit ("));
    count.is_some_and(|(_, count)| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_code_not_by_the_names_in_it() {
        // Texts of RabbitMQ 3.10 to 4.1.
        for (opening, code, text, kind) in [
            (
                false,
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.",
                ErrorKind::Authentication,
            ),
            (false, 403, "ACCESS_REFUSED - user 'limited' has reached a limit", ErrorKind::Authentication),
            (true, 530, "NOT_ALLOWED - vhost rate-limits not found", ErrorKind::VhostRefused),
            (
                true,
                530,
                "NOT_ALLOWED - vhost connection limit (5) is reached not found",
                ErrorKind::VhostRefused,
            ),
            (
                true,
                530,
                "NOT_ALLOWED - access to vhost '/' refused for user 'limited'",
                ErrorKind::VhostRefused,
            ),
            (
                true,
                530,
                "NOT_ALLOWED - access to vhost '/' refused for user 'connection limit (5) is reached'",
                ErrorKind::VhostRefused,
            ),
            (
                true,
                530,
                "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached",
                ErrorKind::LimitReached,
            ),
            (
                true,
                530,
                "NOT_ALLOWED - connection refused for user 'guest': user connection limit (1) is reached",
                ErrorKind::LimitReached,
            ),
            (
                true,
                530,
                "NOT_ALLOWED - connection refused: node connection limit (10) is reached",
                ErrorKind::LimitReached,
            ),
            (true, 402, "INVALID_PATH", ErrorKind::VhostRefused),
            (true, 541, "INTERNAL_ERROR - vhost 'limits' is down", ErrorKind::Refused),
            (false, 530, "NOT_ALLOWED - something about a vhost", ErrorKind::Refused),
        ] {
            let close = Close { reply_code: code, reply_text: text.into(), class_id: 0, method_id: 0 };
            let error = refusal("here", &close, (!opening).then_some("check user name and password"));
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(error.reply_text(), Some(text));
        }
    }
}
