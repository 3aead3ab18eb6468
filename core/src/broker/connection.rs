//! The task of one connection: bytes in, frames to the state, bytes out, heartbeats.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::{
    SessionId, Shared,
    io::Io,
    login,
    session::{OUT_HIGH_WATER, Session, Stage},
    state::State,
};
use crate::wire::{encode, frame::FrameReader};

/// A client must have logged in by then.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// So long the answer to `connection.close` is waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends the session in the state however its task ends, also when its runtime is dropped.
struct Guard {
    shared: Arc<Shared>,
    id: SessionId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.lock().end_session(self.id, Instant::now());
    }
}

/// What the state wants of a connection next.
struct Next {
    bytes: Vec<u8>,
    may_read: bool,
    due: Option<Instant>,
    stage: Stage,
    stalled: bool,
}

/// Serves a client until it or the broker is done with the connection.
pub(super) async fn serve(shared: Arc<Shared>, mut io: Io, client_certificate: bool) {
    let Ok(Some(opened)) =
        timeout(LOGIN_TIMEOUT, login::open(&mut io, &shared.state, client_certificate)).await
    else {
        return;
    };
    let wake = Arc::new(Notify::new());
    let mut frames = opened.frames;
    let heartbeat = opened.heartbeat;
    let guard = {
        let mut state = shared.lock();
        let id = state.next_id();
        let session = Session {
            vhost: opened.vhost,
            user: opened.user,
            frame_max: opened.frame_max,
            channel_max: opened.channel_max,
            notify_cancel: opened.notify_cancel,
            notify_blocked: opened.notify_blocked,
            stage: Stage::Open,
            out: Vec::new(),
            writing: 0,
            wake: wake.clone(),
            channels: BTreeMap::new(),
            publishes: false,
            told_blocked: false,
            holds_confirms: state.holds_confirms,
            starved: BTreeSet::new(),
        };
        state.sessions.insert(id, session);
        Guard { shared: shared.clone(), id }
    };
    let half = heartbeat / 2;
    let mut heard = Instant::now();
    let mut wrote = heard;
    let mut closing_since = None;
    let mut writing: Vec<u8> = Vec::new();
    let mut written = 0;
    loop {
        let now = Instant::now();
        let Next { bytes, may_read, due, stage, stalled } =
            step(shared.lock(), guard.id, &mut frames, now, writing.len() - written);
        if stage == Stage::Dropped {
            return;
        }
        if writing.is_empty() {
            writing = bytes;
        } else {
            writing.extend_from_slice(&bytes);
        }
        if stalled {
            wake.notified().await;
            heard = Instant::now();
            continue;
        }
        if stage == Stage::Closed && writing.is_empty() {
            let _ = io.write.shutdown().await;
            return;
        }
        let give_up = match stage {
            Stage::Open => (!half.is_zero()).then(|| heard + 2 * heartbeat),
            _ => Some(*closing_since.get_or_insert(now) + CLOSE_TIMEOUT),
        };
        if give_up.is_some_and(|at| at <= now) {
            return;
        }
        let beat = (!half.is_zero()).then(|| wrote + half);
        if writing.is_empty() && beat.is_some_and(|at| at <= now) {
            encode::heartbeat(&mut writing);
        }
        let beat = beat.filter(|_| writing.is_empty());
        let wait = [due, give_up, beat].into_iter().flatten().min();
        tokio::select! {
            biased;
            count = io.write.write(&writing[written..]), if !writing.is_empty() => match count {
                Ok(count) if count > 0 => {
                    written += count;
                    wrote = Instant::now();
                    if written == writing.len() {
                        writing.clear();
                        written = 0;
                        if io.write.flush().await.is_err() {
                            return;
                        }
                    }
                }
                _ => return,
            },
            count = io.read.read_buf(reserved(&mut frames)), if may_read => match count {
                Ok(0) | Err(_) => return,
                Ok(_) => heard = Instant::now(),
            },
            () = wake.notified() => {}
            () = until(wait) => {}
        }
    }
}

/// One turn under the lock: whole frames are handled, and what is to be written is taken.
fn step(
    mut state: MutexGuard<'_, State>,
    id: SessionId,
    frames: &mut FrameReader,
    now: Instant,
    writing: usize,
) -> Next {
    state.tick(now);
    let stalled = state.stalled;
    if let Some(session) = state.sessions.get_mut(&id) {
        session.writing = writing;
    }
    // A client that does not read its answers is not asked for more.
    let mut may_read = !stalled && writing < OUT_HIGH_WATER;
    while may_read {
        may_read = !state.is_blocked(id);
        if !may_read {
            break;
        }
        match frames.next() {
            Ok(Some(frame)) => state.on_frame(id, frame, now),
            Ok(None) => break,
            Err(fault) => {
                state.on_violation(id, fault);
                break;
            }
        }
    }
    state.end_batch(id, now);
    state.feed(id, now);
    let due = state.next_due();
    let Some(session) = state.sessions.get_mut(&id) else {
        return Next { bytes: Vec::new(), may_read: false, due: None, stage: Stage::Dropped, stalled: false };
    };
    let bytes = if stalled { Vec::new() } else { std::mem::take(&mut session.out) };
    session.writing += bytes.len();
    may_read &= session.stage != Stage::Closed;
    Next { bytes, may_read, due, stage: session.stage, stalled }
}

/// The read buffer, with room.
fn reserved(frames: &mut FrameReader) -> &mut bytes::BytesMut {
    let buffer = frames.buffer();
    buffer.reserve(64 * 1024);
    buffer
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

impl State {
    /// Whether an alarm keeps the broker from reading this connection.
    fn is_blocked(&self, id: SessionId) -> bool {
        self.blocked.is_some()
            && self.sessions.get(&id).is_some_and(|session| session.publishes && session.stage == Stage::Open)
    }

    /// There is room again: the queues that had something for this connection are looked at.
    fn feed(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.starved.is_empty() && session.has_room() {
            let starved = std::mem::take(&mut session.starved);
            self.dirty.extend(starved);
            self.settle(now);
        }
    }
}
