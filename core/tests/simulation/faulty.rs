//! Byte streams between client and broker that are cut at any byte, stalled, and chopped into pieces.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use murano_messaging::{
    Broker, Connecting, Connector, Error, ErrorKind, Host, Routes, Routing, Stream, TlsOptions,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    time::sleep,
};

use crate::{
    ledger::Ledger,
    plan::{BadAddress, Plan},
    poison::Poison,
    watch::{Frames, is_tracing},
};

/// Where a connection breaks: after this many bytes in one direction.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Reading(u64),
    Writing(u64),
}

struct Pipe {
    inner: Option<DuplexStream>,
    rng: fastrand::Rng,
    /// The most bytes that pass at once.
    chop: usize,
    cut: Option<Cut>,
    wakers: Vec<Waker>,
    /// From the client and to it.
    frames: [Frames; 2],
    poison: Option<Poison>,
}

struct Net {
    pipes: BTreeMap<u64, Pipe>,
    made: u64,
    seed: u64,
    chop: usize,
    stalled: bool,
    lagging: bool,
    /// For the connections to come, one each.
    cuts: Vec<Cut>,
    /// The broker's ends of connections to silent addresses.
    silent: Vec<DuplexStream>,
    /// Connections to bad addresses that were made.
    passed_over: usize,
    /// Deliveries that were spoilt.
    spoilt: usize,
}

impl Net {
    fn wake(&mut self) {
        for pipe in self.pipes.values_mut() {
            pipe.wakers.drain(..).for_each(Waker::wake);
        }
    }
}

/// All connections of a run; makes them, too.
#[derive(Clone)]
pub struct Network {
    net: Arc<Mutex<Net>>,
    broker: Broker,
    ledger: Ledger,
    /// The addresses before the good one.
    bad: Arc<[BadAddress]>,
    /// Whether a message ends the connections that it is delivered on.
    poison: bool,
}

impl Network {
    pub fn new(broker: Broker, ledger: Ledger, seed: u64, plan: &Plan) -> Self {
        let net = Net {
            pipes: BTreeMap::new(),
            made: 0,
            seed,
            chop: plan.chop,
            stalled: false,
            lagging: false,
            cuts: Vec::new(),
            silent: Vec::new(),
            passed_over: 0,
            spoilt: 0,
        };
        Self {
            net: Arc::new(Mutex::new(net)),
            broker,
            ledger,
            bad: plan.bad_addresses.as_slice().into(),
            poison: plan.poison,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Net> {
        self.net.lock().unwrap()
    }

    /// Lets the open connection at `pick` break when it has carried the bytes of `cut`.
    pub fn cut(&self, pick: usize, cut: Cut) {
        let mut net = self.lock();
        let count = net.pipes.len();
        if let Some(pipe) = net.pipes.values_mut().nth(pick % count.max(1)) {
            pipe.cut = Some(cut);
        }
    }

    /// The next connection breaks after the bytes of `cut`, which may be in the middle of its handshake.
    pub fn cut_next(&self, cut: Cut) {
        self.lock().cuts.push(cut);
    }

    /// Nothing passes in either direction, and neither end is told.
    pub fn stall(&self, stalled: bool) {
        let mut net = self.lock();
        net.stalled = stalled;
        net.wake();
    }

    /// Lets bytes pass only at the end of each `period`, for ever.
    pub async fn lag(self, period: Duration) {
        while !period.is_zero() {
            self.lock().lagging = true;
            sleep(period).await;
            {
                let mut net = self.lock();
                net.lagging = false;
                net.wake();
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many connections went to bad addresses.
    pub fn passed_over(&self) -> usize {
        self.lock().passed_over
    }

    /// How many deliveries were spoilt so that they end their connection.
    pub fn spoilt(&self) -> usize {
        self.lock().spoilt
    }

    /// Ends all that is in the way of bytes.
    pub fn clear(&self) {
        let mut net = self.lock();
        net.cuts.clear();
        net.lagging = false;
        net.stalled = false;
        net.wake();
    }
}

impl Connector for Network {
    fn connect<'a>(&'a self, host: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let inner = self.broker.connect().map_err(|error| {
                self.ledger.note("connection refused");
                Error::new(ErrorKind::ConnectFailed, error.to_string())
            })?;
            let mut net = self.lock();
            net.made += 1;
            let number = net.made;
            let pipe = Pipe {
                inner: Some(inner),
                rng: fastrand::Rng::with_seed(net.seed ^ (number << 32)),
                chop: net.chop,
                cut: net.cuts.pop(),
                wakers: Vec::new(),
                frames: Default::default(),
                poison: self.poison.then(Poison::default),
            };
            net.pipes.insert(number, pipe);
            drop(net);
            self.ledger.note(&format!("connection {number}"));
            Ok(Stream::new(Line { network: self.clone(), number }, host.to_string()))
        })
    }

    fn routes<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Routing<'a> {
        let good = self.connect(host, tls);
        let routes: Box<dyn Routes + 'a> =
            Box::new(Addresses { network: self, host, bad: self.bad.iter(), good: Some(good) });
        Box::pin(std::future::ready(Ok(routes)))
    }
}

/// The addresses of the broker's name: the bad ones, and then the good one.
struct Addresses<'a> {
    network: &'a Network,
    host: &'a Host,
    bad: std::slice::Iter<'a, BadAddress>,
    good: Option<Connecting<'a>>,
}

impl Routes for Addresses<'_> {
    fn next(&mut self) -> Option<Connecting<'_>> {
        let Some(bad) = self.bad.next() else { return self.good.take() };
        self.network.ledger.note(&format!("connection to an address that is {bad:?}"));
        let (ours, theirs) = tokio::io::duplex(4096);
        let mut net = self.network.lock();
        net.passed_over += 1;
        if matches!(bad, BadAddress::Silent) {
            net.silent.push(theirs);
        }
        Some(Box::pin(std::future::ready(Ok(Stream::new(ours, self.host.to_string())))))
    }

    fn left(&self) -> usize {
        self.bad.len() + usize::from(self.good.is_some())
    }
}

/// The client's end of one connection.
struct Line {
    network: Network,
    number: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.network.lock().pipes.remove(&self.number);
        self.network.ledger.connection_ended(self.number);
    }
}

impl Line {
    /// Bytes have passed.
    fn note_frames(&self, reading: bool, bytes: &[u8]) {
        if is_tracing() {
            let mut net = self.network.lock();
            let Some(pipe) = net.pipes.get_mut(&self.number) else { return };
            let towards = if reading { "<-" } else { "->" };
            pipe.frames[usize::from(reading)].note(bytes, self.number, towards, &self.network.ledger);
        }
    }

    /// Moves bytes through `pass`, as many as the faults of the moment let through.
    fn transfer(
        &self,
        cx: &mut Context<'_>,
        reading: bool,
        pass: impl FnOnce(Pin<&mut DuplexStream>, &mut Context<'_>, usize) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut net = self.network.lock();
        let stalled = net.stalled || net.lagging;
        let Some(pipe) = net.pipes.get_mut(&self.number) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if pipe.inner.is_none() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if stalled {
            pipe.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let left = match (&mut pipe.cut, reading) {
            (Some(Cut::Reading(left)), true) | (Some(Cut::Writing(left)), false) => Some(left),
            _ => None,
        };
        let chop = if pipe.chop > 0 { pipe.rng.usize(1..=pipe.chop) } else { usize::MAX };
        let most = left.as_ref().map_or(usize::MAX, |left| **left as usize).min(chop);
        if most == 0 {
            // The broker's end sees what has passed, and then the end.
            pipe.inner = None;
            pipe.wakers.drain(..).for_each(Waker::wake);
            drop(net);
            self.network.ledger.note(&format!("connection {} is cut", self.number));
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let Some(inner) = pipe.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let passed = pass(Pin::new(inner), cx, most);
        match &passed {
            Poll::Ready(Ok(count)) => {
                if let Some(left) = left {
                    *left -= *count as u64;
                }
            }
            // Also woken by a cut or the end of a stall.
            Poll::Pending => pipe.wakers.push(cx.waker().clone()),
            Poll::Ready(Err(_)) => {}
        }
        passed
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.transfer(cx, true, |inner, cx, most| {
            let mut part = vec![0; most.min(buf.remaining())];
            let mut part_buf = ReadBuf::new(&mut part);
            match inner.poll_read(cx, &mut part_buf) {
                Poll::Ready(Ok(())) => {
                    let filled = part_buf.filled();
                    buf.put_slice(filled);
                    Poll::Ready(Ok(filled.len()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        });
        if self.network.poison {
            let net = &mut *self.network.lock();
            if let Some(poison) = net.pipes.get_mut(&self.number).and_then(|pipe| pipe.poison.as_mut()) {
                net.spoilt += poison.spoil(&mut buf.filled_mut()[before..]);
            }
        }
        self.note_frames(true, &buf.filled()[before..]);
        polled.map_ok(|_| ())
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled =
            self.transfer(cx, false, |inner, cx, most| inner.poll_write(cx, &buf[..most.min(buf.len())]));
        if let Poll::Ready(Ok(count)) = polled {
            self.note_frames(false, &buf[..count]);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pipe) = self.network.lock().pipes.get_mut(&self.number) {
            pipe.inner = None;
        }
        Poll::Ready(Ok(()))
    }
}
