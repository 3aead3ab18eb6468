//! The server's side of opening a connection (AMQP 0-9-1 section 2.2.4): protocol header, login, tune, virtual host.

use std::{sync::Arc, time::Duration};

use amq_protocol::{
    protocol::{
        AMQPClass,
        connection::{AMQPMethod as Method, Close, OpenOk, Start, StartOk, Tune},
    },
    types::{AMQPValue, FieldTable, LongString, parsing::parse_field_table},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{arguments::text, frames::IntoClass, io::Io, refusal::Refusal, state::State};
use crate::wire::{
    encode::{self, PROTOCOL_HEADER},
    frame::{Frame, FrameReader},
    guard, ids,
};

const FRAME_MAX: u32 = 128 * 1024;
const FRAME_MIN: u32 = 4096;
/// Of RabbitMQ 4.1 and later.
const FRAME_MIN_WITHOUT_DEPRECATED: u32 = 8192;
const CHANNEL_MAX: u16 = 2047;
const HEARTBEAT_SECS: u16 = 60;

/// A connection whose client has logged in and opened a virtual host.
pub(super) struct LoggedIn {
    pub frames: FrameReader,
    pub frame_max: u32,
    pub channel_max: u16,
    pub heartbeat: Duration,
    pub vhost: Arc<str>,
    pub user: Arc<str>,
    pub notify_cancel: bool,
    pub notify_blocked: bool,
}

/// Opens a connection. `None`: the client went away, broke the protocol or was refused, and has been told.
pub(super) async fn open(
    io: &mut Io,
    state: &std::sync::Mutex<State>,
    client_certificate: bool,
) -> Option<LoggedIn> {
    let mut header = [0; 8];
    io.read.read_exact(&mut header).await.ok()?;
    if header != PROTOCOL_HEADER {
        // The answer to a version that is not spoken (AMQP 0-9-1 section 4.2.2).
        io.write.write_all(&PROTOCOL_HEADER).await.ok()?;
        io.write.flush().await.ok()?;
        return None;
    }
    let mut peer = Peer { io, frames: FrameReader::new(FRAME_MAX) };
    peer.send(Method::Start(Start {
        version_major: 0,
        version_minor: 9,
        server_properties: server_properties(),
        mechanisms: "PLAIN AMQPLAIN EXTERNAL".into(),
        locales: "en_US".into(),
    }))
    .await?;
    let Method::StartOk(start_ok) = peer.read().await? else { return peer.unexpected().await };
    let user = {
        let state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        authenticate(&state, &start_ok, client_certificate)
    };
    let Some(user) = user else {
        if capability(&start_ok.client_properties, "authentication_failure_close") {
            let mechanism = &start_ok.mechanism;
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            return peer.refuse(&Refusal::access(text)).await;
        }
        return None;
    };
    peer.send(Method::Tune(Tune {
        channel_max: CHANNEL_MAX,
        frame_max: FRAME_MAX,
        heartbeat: HEARTBEAT_SECS,
    }))
    .await?;
    let Method::TuneOk(tuned) = peer.read().await? else { return peer.unexpected().await };
    let frame_max = if tuned.frame_max == 0 { FRAME_MAX } else { tuned.frame_max };
    let deny = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).deny_deprecated;
    if deny && frame_max < FRAME_MIN_WITHOUT_DEPRECATED {
        return None;
    }
    if !(FRAME_MIN..=FRAME_MAX).contains(&frame_max) {
        let text = format!("negotiated frame_max = {frame_max} is not in {FRAME_MIN}..{FRAME_MAX}");
        return peer.refuse(&Refusal::new(530, text)).await;
    }
    peer.frames.set_frame_max(frame_max);
    let Method::Open(open) = peer.read().await? else { return peer.unexpected().await };
    let vhost: Arc<str> = open.virtual_host.as_str().into();
    let known = {
        let state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.vhosts.contains_key(&vhost)
    };
    if !known {
        return peer.refuse(&Refusal::new(530, format!("vhost {vhost} not found"))).await;
    }
    peer.send(Method::OpenOk(OpenOk {})).await?;
    let client = &start_ok.client_properties;
    Some(LoggedIn {
        frames: peer.frames,
        frame_max,
        channel_max: if tuned.channel_max == 0 { CHANNEL_MAX } else { tuned.channel_max.min(CHANNEL_MAX) },
        heartbeat: Duration::from_secs(tuned.heartbeat.into()),
        vhost,
        user: user.into(),
        notify_cancel: capability(client, "consumer_cancel_notify"),
        notify_blocked: capability(client, "connection.blocked"),
    })
}

fn server_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    for (key, value) in [
        ("product", "murano-messaging embedded broker"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("information", "For tests, demos and development. Keeps nothing on disk."),
    ] {
        properties.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    properties
}

fn capability(properties: &FieldTable, name: &str) -> bool {
    match properties.inner().get("capabilities") {
        Some(AMQPValue::FieldTable(capabilities)) => {
            capabilities.inner().get(name).and_then(AMQPValue::as_bool).unwrap_or(false)
        }
        _ => false,
    }
}

/// The user that the response stands for, if it is one.
fn authenticate(state: &State, start_ok: &StartOk, client_certificate: bool) -> Option<String> {
    if state.refuse_logins {
        return None;
    }
    let (user, password) = match start_ok.mechanism.as_str() {
        "PLAIN" => plain(&start_ok.response)?,
        "AMQPLAIN" => amqplain(&start_ok.response)?,
        "EXTERNAL" if client_certificate => return state.external_user.clone(),
        _ => return None,
    };
    let known = state.users.get(&user)?;
    (known.as_str() == password).then_some(user)
}

/// RFC 4616: authorization identity, user and password, with a NUL before the last two.
fn plain(response: &LongString) -> Option<(String, String)> {
    let text = std::str::from_utf8(response.as_bytes()).ok()?;
    let mut parts = text.splitn(3, '\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}

/// A table without its length (RabbitMQ, AMQPLAIN).
fn amqplain(response: &LongString) -> Option<(String, String)> {
    let mut bytes = u32::try_from(response.len()).ok()?.to_be_bytes().to_vec();
    bytes.extend_from_slice(response.as_bytes());
    guard::table(&bytes).ok()?;
    let (_, table) = parse_field_table(bytes.as_slice()).ok()?;
    Some((text(table.inner().get("LOGIN")?)?, text(table.inner().get("PASSWORD")?)?))
}

struct Peer<'a> {
    io: &'a mut Io,
    frames: FrameReader,
}

impl Peer<'_> {
    async fn send(&mut self, method: Method) -> Option<()> {
        let mut out = Vec::new();
        encode::method(&mut out, 0, &method.into_class());
        self.io.write.write_all(&out).await.ok()?;
        self.io.write.flush().await.ok()
    }

    async fn read(&mut self) -> Option<Method> {
        loop {
            match self.frames.next() {
                Ok(Some(Frame::Method(0, AMQPClass::Connection(method)))) => return Some(method),
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(other)) => {
                    let ids = if let Frame::Method(_, method) = &other { ids(method) } else { (0, 0) };
                    let text = format!("method {ids:?} before the connection is open");
                    return self.refuse(&Refusal::new(503, text)).await;
                }
                Ok(None) => {
                    if self.io.read.read_buf(self.frames.buffer()).await.ok()? == 0 {
                        return None;
                    }
                }
                Err(fault) => return self.refuse(&fault.into()).await,
            }
        }
    }

    async fn unexpected<T>(&mut self) -> Option<T> {
        self.refuse(&Refusal::new(503, "not what opens a connection at this point")).await
    }

    /// Closes with a code. What comes back no longer matters.
    async fn refuse<T>(&mut self, refusal: &Refusal) -> Option<T> {
        let close =
            Close { reply_code: refusal.code, reply_text: refusal.short_text(), class_id: 0, method_id: 0 };
        self.send(Method::Close(close)).await?;
        // Its answer, or its end: closing earlier could take the refusal from it.
        let mut rest = [0; 256];
        let _ = self.io.read.read(&mut rest).await;
        None
    }
}
