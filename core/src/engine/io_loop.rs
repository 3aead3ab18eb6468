//! The turn of the engine on a live connection: mail, frames, time, and one write for all of it.

use std::{
    future::{Future, poll_fn},
    io,
    task::Poll,
    time::Duration,
};

use tokio::{
    io::AsyncRead,
    time::{Instant, MissedTickBehavior},
};

use super::{Ended, Engine, dispatch::Fault, topology_wait::TopologyWait, writer::HIGH_WATER};
use crate::{
    Error, ErrorKind,
    events::{Event, Role},
    tls::io_reason,
    wire::{
        encode,
        frame::{FrameReader, Violation, cut_to_fit},
        handshake,
    },
};

/// The size of a read in bytes, at first and after a silent tick; it doubles up to [`READ_MAX`] while reads fill it.
const READ_MIN: usize = 4 * 1024;
const READ_MAX: usize = 256 * 1024;

/// The number of bytes written in one turn before the engine looks at what has come in.
const WRITE_PER_TURN: usize = 4 * HIGH_WATER;

/// The number of bytes of acks kept for a peer that does not read them: some 400,000 single acks of 21 bytes. A broker
/// that keeps to a prefetch, which is 65,535 at most, stops delivering long before.
const MOST_UNREAD_ACKS: usize = 8 * 1024 * 1024;

/// A silent peer is given up at the third half-period without a byte: after 1.5 to 2 heartbeat periods.
const SILENT_TICKS: u32 = 3;

/// The read half's buffer, and how long it has been silent.
pub(super) struct Reading {
    frames: FrameReader,
    chunk: usize,
    heartbeat: Duration,
    heard: bool,
    silent: u32,
}

impl Reading {
    pub fn new(frames: FrameReader, heartbeat: Duration) -> Self {
        Self { frames, chunk: READ_MIN, heartbeat, heard: true, silent: 0 }
    }

    /// Reads what is there, as much as the buffer has room for.
    fn poll_read(
        &mut self,
        io: &mut (dyn AsyncRead + Send + Unpin),
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let chunk = self.chunk;
        let buffer = self.frames.buffer();
        buffer.reserve(chunk);
        let count = {
            let mut read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(io, buffer));
            match read.as_mut().poll(cx) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        };
        self.heard |= count > 0;
        if count >= chunk {
            self.chunk = (chunk * 2).min(READ_MAX);
        }
        Poll::Ready(Ok(count))
    }
}

/// What ended the wait of a turn.
enum Woken {
    Tick,
    Deadline,
    Read(io::Result<usize>),
    Flushed(io::Result<()>),
    Mail,
    TopologyThere,
}

impl Engine {
    pub(super) async fn serve(
        &mut self,
        mut io: Box<dyn AsyncRead + Send + Unpin>,
        mut reading: Reading,
    ) -> Ended {
        let half = reading.heartbeat / 2;
        let mut ticks = (!half.is_zero()).then(|| {
            let mut ticks = tokio::time::interval_at(Instant::now() + half, half);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        // The handshake may have read past its last frame.
        if let Err(ended) = self.on_bytes(&mut reading) {
            return ended;
        }
        loop {
            self.read_mail();
            if let Some(ended) = self.advance() {
                return ended;
            }
            let mut flushed = match self.flush_once().await {
                Ok(flushed) => flushed,
                Err(error) => return self.write_failed(&error),
            };
            if self.need_not_wait_for_close() {
                return Ended::Closed;
            }
            let deadline = self.next_deadline();
            // A close ends all consumers, so that nothing more comes but answers.
            let ending = self.closing.is_some() || self.is_cancelling();
            let full = self.link.budget.is_used_up();
            if !full || ending {
                self.release_held();
            }
            let paused = full && !ending && !self.reads_when_full();
            let link = self.link.clone();
            let mut topology_wait = self.topology_wait.take();
            let woken = {
                let engine = &mut *self;
                tokio::select! {
                    biased;
                    () = tick(ticks.as_mut()) => Woken::Tick,
                    () = sleep_until(deadline) => Woken::Deadline,
                    read = poll_fn(|cx| reading.poll_read(&mut *io, cx)), if !paused => Woken::Read(read),
                    written = poll_fn(|cx| engine.poll_flush(cx, &mut flushed)), if !flushed => Woken::Flushed(written),
                    () = link.woken() => Woken::Mail,
                    () = TopologyWait::over(topology_wait.as_mut()) => Woken::TopologyThere,
                }
            };
            self.topology_wait = topology_wait;
            let ended = match woken {
                Woken::Mail | Woken::Flushed(Ok(())) => Ok(()),
                Woken::TopologyThere => {
                    self.open_publishing();
                    Ok(())
                }
                Woken::Flushed(Err(error)) => Err(self.write_failed(&error)),
                Woken::Deadline => {
                    self.on_deadline();
                    Ok(())
                }
                Woken::Tick => self.on_tick(&mut *io, &mut reading, paused).await,
                Woken::Read(read) => self.on_read(read, &mut reading),
            };
            if let Err(ended) = ended {
                return ended;
            }
        }
    }

    fn on_read(&mut self, read: io::Result<usize>, reading: &mut Reading) -> Result<(), Ended> {
        match read {
            Ok(0) => Err(self.lost("the peer closed the connection")),
            Ok(_) => self.on_bytes(reading),
            Err(error) => Err(self.lost(&format!("reading failed: {}", io_reason(&error)))),
        }
    }

    /// Handles every whole frame in the buffer.
    fn on_bytes(&mut self, reading: &mut Reading) -> Result<(), Ended> {
        let result = loop {
            match reading.frames.next() {
                Ok(Some(frame)) => {
                    let number = frame.channel();
                    match self.on_frame(frame) {
                        Ok(()) => {}
                        Err(Fault::Ended(ended)) => break Err(ended),
                        Err(Fault::Violation(fault)) => {
                            self.blame_message(number, &fault);
                            break Err(self.violated(&fault));
                        }
                    }
                }
                Ok(None) => break Ok(()),
                Err(fault) => {
                    self.blame_message(fault.channel, &fault);
                    break Err(self.violated(&fault));
                }
            }
        };
        for incoming in self.live.to_wake.drain(..) {
            incoming.wake();
        }
        result
    }

    /// Half a heartbeat period has passed.
    async fn on_tick(
        &mut self,
        io: &mut (dyn AsyncRead + Send + Unpin),
        reading: &mut Reading,
        paused: bool,
    ) -> Result<(), Ended> {
        {
            let mut writer = self.link.lock_writer();
            if !std::mem::replace(&mut writer.wrote, false) && writer.is_idle() {
                encode::heartbeat(&mut writer.buffer);
            }
            writer.shrink();
        }
        if paused || std::mem::replace(&mut reading.heard, false) {
            reading.silent = 0;
            return Ok(());
        }
        reading.silent += 1;
        reading.chunk = READ_MIN;
        if reading.silent < SILENT_TICKS {
            return Ok(());
        }
        // This task may have been held up itself; what the peer sent meanwhile is there to be read.
        let last = poll_fn(|cx| Poll::Ready(reading.poll_read(io, cx))).await;
        match last {
            Poll::Ready(read) => {
                reading.silent = 0;
                self.on_read(read, reading)
            }
            Poll::Pending => {
                let silence = reading.heartbeat * SILENT_TICKS / 2;
                Err(self.lost(&format!(
                    "nothing was heard for {silence:?} or more (heartbeat {:?})",
                    reading.heartbeat
                )))
            }
        }
    }

    pub(super) fn lost(&self, reason: &str) -> Ended {
        let error =
            Error::new(ErrorKind::ConnectionLost, format!("connection to {} lost: {reason}", self.live.host));
        Ended::Lost { error, suspect: false }
    }

    fn write_failed(&self, error: &io::Error) -> Ended {
        self.lost(&format!("writing failed: {}", io_reason(error)))
    }

    /// The peer broke the protocol: tells it so, as far as the socket takes it, and gives the connection up.
    pub(super) fn violated(&mut self, fault: &Violation) -> Ended {
        use amq_protocol::protocol::{
            AMQPClass,
            connection::{AMQPMethod, Close},
        };
        let reply_text = cut_to_fit(fault.text.clone());
        let close = Close { reply_code: fault.code, reply_text, class_id: 0, method_id: 0 };
        let mut writer = self.link.lock_writer();
        encode::method(&mut writer.buffer, 0, &AMQPClass::Connection(AMQPMethod::Close(close)));
        // Not waited for: a peer that breaks the protocol may not read either.
        writer.flush_now();
        drop(writer);
        Ended::Lost { error: handshake::violation(&self.live.host, fault), suspect: false }
    }

    // ---- writing ---------------------------------------------------------------------------------------------

    /// Encodes what waits and writes as much as the socket takes now. Returns whether all of it has left.
    async fn flush_once(&mut self) -> io::Result<bool> {
        let mut flushed = false;
        let polled = poll_fn(|cx| Poll::Ready(self.poll_flush(cx, &mut flushed))).await;
        match polled {
            Poll::Ready(Ok(())) => Ok(flushed),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(false),
        }
    }

    /// Ready when nothing is left (`flushed`), or when this turn's share is written.
    fn poll_flush(&mut self, cx: &mut std::task::Context<'_>, flushed: &mut bool) -> Poll<io::Result<()>> {
        let mut writer = self.link.lock_writer();
        let mut written = 0;
        loop {
            if !self.live.out.is_empty() {
                writer.buffer.append(&mut self.live.out);
            }
            let frame_max = writer.frame_max;
            for publishing in self.windows() {
                publishing.pump(&mut writer.buffer, frame_max);
            }
            if writer.is_idle() {
                self.live.flows = 0;
                self.live.unread_acks = 0;
                *flushed = true;
                return Poll::Ready(Ok(()));
            }
            written += writer.backlog();
            match writer.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if written >= WRITE_PER_TURN {
                // More may be waiting; the next turn goes on with it.
                return Poll::Ready(Ok(()));
            }
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------

    /// When something must be looked at, whatever the broker does.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let closing = self.closing.as_ref().and_then(|closing| closing.deadlines().min());
        let publishes = self.windows().filter_map(|publishing| publishing.next_deadline()).min();
        let retry = self.retries.iter().map(|retry| retry.at).min();
        let topology = self.topology_wait.as_ref().map(|wait| wait.until);
        [self.armed, closing, publishes, retry, topology].into_iter().flatten().min()
    }

    /// Fails what is past its deadline, live connection or not.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        for publishing in self.windows() {
            publishing.with(|window| window.expire(now));
        }
        if self.armed.is_some_and(|armed| armed <= now) {
            self.expire_commands(now);
        }
    }

    fn on_deadline(&mut self) {
        self.expire();
        let now = Instant::now();
        if self.topology_wait.as_ref().is_some_and(|wait| wait.until <= now) {
            tracing::debug!(role = %self.role, "publishing goes on without waiting for the topology");
            self.open_publishing();
        }
        self.run_retries(now);
    }

    /// Takes the steps that depend on the state of the engine alone: the next operation of a careful connection, and of
    /// a close. Gives up a peer that delivers more and more and reads none of the acks.
    fn advance(&mut self) -> Option<Ended> {
        if self.live.unread_acks > MOST_UNREAD_ACKS && self.link.lock_writer().backlog() > MOST_UNREAD_ACKS {
            return Some(
                self.lost(&format!("it delivers, and has not read {MOST_UNREAD_ACKS} bytes of acks")),
            );
        }
        self.advance_carefully();
        self.advance_close()
    }

    pub(super) fn set_blocked(&mut self, reason: Option<String>) {
        self.live.blocked = reason.is_some();
        for publishing in self.windows() {
            publishing.with(|window| window.set_blocked(reason.is_some()));
        }
        let role: Role = self.role;
        self.events.send(match reason {
            Some(reason) => Event::Blocked { role, reason },
            None => Event::Unblocked { role },
        });
    }
}

async fn tick(ticks: Option<&mut tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
