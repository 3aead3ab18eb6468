//! The other end: it answers as a broker would, delivers, confirms and returns, and every frame goes past a spoiler.

use std::sync::{Arc, Mutex, PoisonError};

use murano_messaging::{Connecting, Connector, Host, Stream, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    Rng,
    bytes::*,
    mutate::{Spoiler, random_bytes, random_frame},
};

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Noise, from the first byte on.
    Noise,
    /// A handshake as it should be, then frames without rhyme or reason.
    Frames,
    /// A broker, one in this many of whose frames is corrupted.
    Spoilt(u32),
}

/// Brings streams to servers of one behaviour.
pub struct Lair {
    behaviour: Behaviour,
    rng: Mutex<Rng>,
}

impl Lair {
    pub fn new(behaviour: Behaviour, rng: Rng) -> Arc<Self> {
        Arc::new(Self { behaviour, rng: Mutex::new(rng) })
    }
}

impl Connector for Lair {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork();
            // Parts of any size, down to a byte.
            let size = [1, 7, 64, 4096, 65_536][rng.usize(..5)];
            let (ours, theirs) = tokio::io::duplex(size);
            tokio::spawn(serve(theirs, self.behaviour, rng));
            Ok(Stream::new(ours, "lair"))
        })
    }
}

async fn serve(stream: DuplexStream, behaviour: Behaviour, mut rng: Rng) {
    let (mut read, mut write) = tokio::io::split(stream);
    // The client must not depend on whether it is listened to.
    let deaf = rng.u8(..16) == 0;
    match behaviour {
        Behaviour::Noise => {
            let mut bytes = random_bytes(&mut rng, 200);
            if rng.bool() {
                bytes = [start(&[0; 4], "PLAIN"), random_frame(&mut rng), bytes].concat();
            }
            // The client may be gone; what it does is judged elsewhere, here as in all that follows.
            let _ = write.write_all(&bytes).await;
        }
        Behaviour::Frames => {
            let opened = [start(&[0; 4], "PLAIN"), tune(3, 4096, 0), method(0, OPEN_OK, &[0])].concat();
            let _ = write.write_all(&opened).await;
            for _ in 0..rng.u8(1..20) {
                let _ = write.write_all(&random_frame(&mut rng)).await;
            }
        }
        Behaviour::Spoilt(one_in) => {
            let mut broker = Broker { spoiler: Spoiler::new(rng.fork(), one_in), ..Broker::default() };
            let mut heard = vec![0; 8];
            if read.read_exact(&mut heard).await.is_err() {
                return;
            }
            heard.clear();
            let hello = broker.spoiler.pass(start(&[0; 4], "PLAIN"));
            let _ = write.write_all(&hello).await;
            for _ in 0..rng.u8(4..60) {
                // Nothing to read is a reason to go on too: a server speaks when it likes.
                let said =
                    tokio::time::timeout(std::time::Duration::from_millis(10), read.read_buf(&mut heard));
                match said.await {
                    Ok(Ok(count)) if count > 0 => {}
                    Ok(_) => return,
                    Err(_) => {}
                }
                let out = broker.answers(&mut heard);
                if write.write_all(&out).await.is_err() {
                    return;
                }
            }
        }
    }
    if deaf {
        // For longer than any deadline.
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    } else if rng.bool() {
        let mut rest = Vec::new();
        // Listens until the client goes.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(60), read.read_to_end(&mut rest)).await;
    }
}

/// A broker that answers and says nothing of its own.
pub async fn serve_politely(stream: DuplexStream) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut broker = Broker::default();
    let mut heard = vec![0; 8];
    let mut out = start(&[0; 4], "PLAIN");
    if read.read_exact(&mut heard).await.is_err() {
        return;
    }
    heard.clear();
    while write.write_all(&out).await.is_ok() && read.read_buf(&mut heard).await.is_ok_and(|count| count > 0)
    {
        out = broker.replies(&mut heard);
    }
}

/// What a broker remembers.
#[derive(Default)]
struct Broker {
    spoiler: Spoiler,
    /// Channel and tag of those that consume, and how many deliveries they got.
    consumers: Vec<(u16, Vec<u8>, u64)>,
    /// Channels with publishes, and how many there were and are confirmed.
    publishers: Vec<(u16, u64, u64)>,
    gets: u64,
}

impl Broker {
    /// Answers to the whole frames in `heard`, and what else there is to say.
    fn answers(&mut self, heard: &mut Vec<u8>) -> Vec<u8> {
        let mut out = self.replies(heard);
        for frame in self.of_its_own() {
            out.extend(self.spoiler.pass(frame));
        }
        out
    }

    /// Answers to the whole frames in `heard`.
    fn replies(&mut self, heard: &mut Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(head) = heard.first_chunk::<7>() {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            if heard.len() < size + 8 {
                break;
            }
            let frame: Vec<u8> = heard.drain(..size + 8).collect();
            if let [METHOD, a, b, _, _, _, _, c, d, e, f, fields @ .., _] = frame.as_slice() {
                let id = (u16::from_be_bytes([*c, *d]), u16::from_be_bytes([*e, *f]));
                for answer in self.answer(u16::from_be_bytes([*a, *b]), id, fields) {
                    out.extend(self.spoiler.pass(answer));
                }
            }
        }
        out
    }

    fn answer(&mut self, channel: u16, id: Id, fields: &[u8]) -> Vec<Vec<u8>> {
        let ok = |id, fields: &[u8]| vec![method(channel, id, fields)];
        match id {
            START_OK => vec![tune(16, 4096, 0)],
            OPEN => ok(OPEN_OK, &[0]),
            CHANNEL_OPEN => ok(CHANNEL_OPEN_OK, &[0; 4]),
            CHANNEL_CLOSE | CLOSE => {
                self.consumers.retain(|consumer| consumer.0 != channel);
                self.publishers.retain(|publisher| publisher.0 != channel);
                ok((id.0, id.1 + 1), &[])
            }
            DECLARE => ok(DECLARE_OK, &[&short("q")[..], &[0; 8]].concat()),
            CONSUME => {
                let queue = usize::from(fields[2]);
                let length = usize::from(fields[3 + queue]);
                let tag = fields[3 + queue..4 + queue + length].to_vec();
                self.consumers.push((channel, tag.clone(), 0));
                ok(CONSUME_OK, &tag)
            }
            CANCEL => {
                let tag = fields[..fields.len() - 1].to_vec();
                self.consumers.retain(|consumer| consumer.1 != tag);
                ok(CANCEL_OK, &tag)
            }
            GET if self.spoiler.rng.bool() => ok((60, 72), &[0]),
            GET => {
                self.gets += 1;
                let got = [&self.gets.to_be_bytes()[..], &[0], &short(""), &short("q"), &[0; 4]].concat();
                vec![method(channel, GET_OK, &got), header(channel, 1, BARE), body(channel, b"g")]
            }
            PUBLISH => {
                match self.publishers.iter_mut().find(|publisher| publisher.0 == channel) {
                    Some(publisher) => publisher.1 += 1,
                    None => self.publishers.push((channel, 1, 0)),
                }
                Vec::new()
            }
            // Everything else that has an answer has the next number for it, and nothing in it.
            QOS | SELECT | (60, 110) | (10, 70) => ok((id.0, id.1 + 1), &[]),
            _ => Vec::new(),
        }
    }

    /// Deliveries, confirms, and what a broker does now and then.
    fn of_its_own(&mut self) -> Vec<Vec<u8>> {
        let rng = &mut self.spoiler.rng;
        let mut out = Vec::new();
        for (channel, tag, delivered) in &mut self.consumers {
            for _ in 0..rng.u8(..3) {
                *delivered += 1;
                let text = random_bytes(rng, 10);
                let fields = [tag, &delivered.to_be_bytes()[..], &[0], &short(""), &short("q")].concat();
                out.push(method(*channel, DELIVER, &fields));
                out.push(header(*channel, text.len() as u64, BARE));
                out.extend(text.chunks(4).map(|chunk| body(*channel, chunk)));
            }
        }
        for (channel, published, confirmed) in &mut self.publishers {
            if confirmed < published && rng.bool() {
                *confirmed = rng.u64(*confirmed + 1..=*published);
                let id = if rng.u8(..4) > 0 { ACK } else { NACK };
                out.push(method(*channel, id, &[&confirmed.to_be_bytes()[..], &[1]].concat()));
            }
        }
        match rng.u8(..32) {
            0 => out.push(HEARTBEAT.to_vec()),
            1 => out.push(method(0, BLOCKED, &short("low on disk"))),
            2 => out.push(method(0, (10, 61), &[])),
            3 => {
                if let Some((channel, ..)) = self.publishers.pop() {
                    out.push(close(channel, CHANNEL_CLOSE, 404, "NOT_FOUND - no exchange 'x' in vhost '/'"));
                }
            }
            4 => {
                if let Some((channel, tag, _)) = self.consumers.pop() {
                    out.push(method(channel, CANCEL, &[&tag[..], &[1]].concat()));
                }
            }
            5 if rng.u8(..4) == 0 => out.push(close(0, CLOSE, 320, "CONNECTION_FORCED")),
            _ => {}
        }
        out
    }
}
