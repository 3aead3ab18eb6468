//! What happens to a client's connections, as a stream of [`Event`]s and as `tracing` events.
//!
//! The file is long because each event has its documentation, and its text in the log beside it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use tokio::{sync::broadcast, time::Instant};

use crate::{Error, wire::properties::HeadersDefect};

/// Which of a client's two connections an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Topology and consuming; publishing too, where one connection serves for all.
    Main,
    /// Publishing only.
    Publish,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Main => "main",
            Role::Publish => "publish",
        })
    }
}

/// Something that could not be restored after a reconnect.
#[derive(Clone, Debug)]
pub struct NotRestored {
    /// What it was, e.g. `queue 'tasks'`.
    pub what: String,
    /// Why.
    pub error: Error,
}

/// What a reconnect brought back.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Restored {
    /// Exchanges declared again.
    pub exchanges: usize,
    /// Queues declared again.
    pub queues: usize,
    /// Bindings made again.
    pub bindings: usize,
    /// Consumers started again.
    pub consumers: usize,
    /// Unconfirmed publishes that are being sent again.
    pub republished: usize,
    /// What could not be restored and was skipped.
    pub failed: Vec<NotRestored>,
}

/// Something that happened to a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is being made.
    Connecting {
        /// Which connection.
        role: Role,
        /// `host:port`.
        host: String,
    },
    /// A connection is open.
    Connected {
        /// Which connection.
        role: Role,
        /// `host:port`.
        host: String,
    },
    /// The broker blocks publishers (RabbitMQ `connection.blocked`: a memory or disk alarm).
    Blocked {
        /// Which connection.
        role: Role,
        /// The broker's reason.
        reason: String,
    },
    /// The broker takes publishes again.
    Unblocked {
        /// Which connection.
        role: Role,
    },
    /// A connection was lost.
    Lost {
        /// Which connection.
        role: Role,
        /// Why.
        reason: Error,
    },
    /// The next attempt to reconnect.
    Recovering {
        /// Which connection.
        role: Role,
        /// Counts up from 1.
        attempt: u32,
        /// How long the engine waits before it.
        delay: Duration,
        /// What the attempt before this one failed with.
        last_error: Option<Error>,
    },
    /// A connection is back with its topology and consumers.
    Recovered {
        /// Which connection.
        role: Role,
        /// What came back with it.
        restored: Restored,
    },
    /// A server-named queue was declared again and has another name.
    QueueRenamed {
        /// The name that is gone.
        old: String,
        /// The name from now on.
        new: String,
    },
    /// A consumer was cancelled by the broker.
    ConsumerCancelled {
        /// Its tag.
        consumer_tag: String,
        /// The queue it consumed.
        queue: String,
        /// Whether it goes on when its queue is there again.
        resumes: bool,
    },
    /// A consumer goes on after it had been cancelled.
    ConsumerResumed {
        /// Its tag.
        consumer_tag: String,
        /// The queue it consumes.
        queue: String,
    },
    /// The delivery buffer is full, because a consumer is not being read: nothing more is read from the broker but what
    /// somebody waits for. Told once a minute at most.
    DeliveryBufferFull {
        /// The tag of the consumer that holds the most.
        consumer_tag: String,
        /// The queue it consumes.
        queue: String,
        /// Its deliveries that were not handed out.
        undelivered: usize,
    },
    /// A message with a body over the bound was rejected without requeue.
    OversizeRejected {
        /// The queue it came from.
        queue: String,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// A message with unreadable properties or headers was delivered.
    HeadersDefect {
        /// The queue it came from.
        queue: String,
        /// What is wrong.
        defect: HeadersDefect,
    },
    /// The client is closed.
    Closed {
        /// Which connection.
        role: Role,
        /// Why, unless its owner closed it.
        reason: Option<Error>,
    },
}

impl Event {
    /// The same event for `tracing`; errors carry no secrets, so this cannot either. What is not `worth_telling` is for
    /// those who debug.
    fn trace(&self, worth_telling: bool) {
        match self {
            Event::Connecting { role, host } => tracing::debug!(%role, %host, "connecting"),
            Event::Connected { role, host } if worth_telling => tracing::info!(%role, %host, "connected"),
            Event::Connected { role, host } => tracing::debug!(%role, %host, "connected"),
            Event::Blocked { role, reason } if worth_telling => {
                tracing::warn!(%role, %reason, "the broker blocks publishers");
            }
            Event::Blocked { role, reason } => {
                tracing::debug!(%role, %reason, "the broker blocks publishers");
            }
            Event::Unblocked { role } if worth_telling => {
                tracing::info!(%role, "the broker takes publishes again");
            }
            Event::Unblocked { role } => tracing::debug!(%role, "the broker takes publishes again"),
            Event::Lost { role, reason } => tracing::warn!(%role, %reason, "connection lost"),
            Event::Recovering { role, attempt, delay, last_error: Some(error) } if worth_telling => {
                tracing::warn!(%role, attempt, ?delay, %error, "not connected: trying again");
            }
            Event::Recovering { role, attempt, delay, last_error } => {
                tracing::debug!(%role, attempt, ?delay, error = last_error.as_ref().map(tracing::field::display), "recovering");
            }
            Event::Recovered { role, restored } => {
                tracing::info!(
                    %role,
                    exchanges = restored.exchanges,
                    queues = restored.queues,
                    bindings = restored.bindings,
                    consumers = restored.consumers,
                    republished = restored.republished,
                    failed = restored.failed.len(),
                    "recovered"
                );
                for failed in &restored.failed {
                    tracing::warn!(what = %failed.what, error = %failed.error, "could not be restored");
                }
            }
            Event::QueueRenamed { old, new } => tracing::info!(%old, %new, "queue renamed"),
            Event::ConsumerCancelled { consumer_tag, queue, resumes } => {
                tracing::warn!(%consumer_tag, %queue, resumes, "consumer cancelled by the broker");
            }
            Event::ConsumerResumed { consumer_tag, queue } => {
                tracing::info!(%consumer_tag, %queue, "consumer resumed");
            }
            Event::DeliveryBufferFull { consumer_tag, queue, undelivered } => {
                tracing::warn!(%consumer_tag, %queue, undelivered, "the delivery buffer is full: a consumer is not being read");
            }
            Event::OversizeRejected { queue, size, limit } => {
                tracing::warn!(%queue, size, limit, "message over the size bound rejected");
            }
            Event::HeadersDefect { queue, defect } => {
                tracing::warn!(%queue, reason = %defect.reason, "message with unreadable headers delivered");
            }
            Event::Closed { role, reason } => {
                tracing::debug!(%role, reason = reason.as_ref().map(tracing::field::display), "closed");
            }
        }
    }
}

/// A connection that stays away is told of again after so long.
const REMINDER: Duration = Duration::from_secs(60);

/// Sends events to everybody who listens, and to the log.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    listeners: broadcast::Sender<Event>,
    state: Arc<EventState>,
}

/// What was told of each connection.
#[derive(Debug)]
struct EventState {
    /// Where a connection lives for one message, that it is there is nothing to tell.
    short_lived: bool,
    /// Which connections the broker blocks.
    blocked: [AtomicBool; 2],
    /// When it was last told that an attempt to connect had failed; `None` while there is a connection.
    told_failed: [Mutex<Option<Instant>>; 2],
}

/// So many events are kept for a listener that does not keep up; older ones are dropped, and it is told so in the log.
const KEPT: usize = 256;

impl EventSender {
    pub fn new(short_lived: bool) -> Self {
        let state = EventState { short_lived, blocked: Default::default(), told_failed: Default::default() };
        Self { listeners: broadcast::Sender::new(KEPT), state: Arc::new(state) }
    }

    pub fn send(&self, event: Event) {
        event.trace(self.state.note(&event));
        // An error only says that nobody listens.
        let _ = self.listeners.send(event);
    }

    pub fn subscribe(&self) -> Events {
        Events(Listener::Idle(self.listeners.subscribe()))
    }

    /// Whether the broker blocks publishing on any connection.
    pub fn is_blocked(&self) -> bool {
        self.state.blocked.iter().any(|blocked| blocked.load(Ordering::Relaxed))
    }
}

impl EventState {
    /// Keeps what the event changes, and says whether it is worth telling.
    fn note(&self, event: &Event) -> bool {
        let told_failed =
            |role: Role| self.told_failed[role as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let block = |role: Role, blocked| self.blocked[role as usize].store(blocked, Ordering::Relaxed);
        match event {
            Event::Connected { role, .. } => {
                *told_failed(*role) = None;
                !self.short_lived
            }
            Event::Blocked { role, .. } => {
                block(*role, true);
                !self.short_lived
            }
            Event::Unblocked { role } => {
                block(*role, false);
                !self.short_lived
            }
            Event::Lost { role, .. } | Event::Closed { role, .. } => {
                block(*role, false);
                true
            }
            Event::Recovering { role, last_error: Some(_), .. } => {
                let mut told = told_failed(*role);
                let due = told.is_none_or(|told| told.elapsed() >= REMINDER);
                if due {
                    *told = Some(Instant::now());
                }
                due
            }
            _ => true,
        }
    }
}

/// The events of a client from the moment it was asked for; a stream, which ends when the client is gone.
///
/// A listener that falls more than 256 events behind loses the oldest.
pub struct Events(Listener);

enum Listener {
    /// Nothing is waited for.
    Idle(broadcast::Receiver<Event>),
    /// The wait for the next event has the receiver.
    Waiting(Receiving),
    /// All that there is to tell of a client that was closed before.
    Closed(Box<Event>),
    Ended,
}

type Received = Result<Event, broadcast::error::RecvError>;
type Receiving = Pin<Box<dyn Future<Output = (Received, broadcast::Receiver<Event>)> + Send + Sync>>;

impl Events {
    /// The events of a client that is closed: that it is.
    pub(crate) fn of_closed(reason: Option<Error>) -> Self {
        Self(Listener::Closed(Box::new(Event::Closed { role: Role::Main, reason })))
    }

    /// The next event; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// An event that is there already, without waiting.
    pub fn try_recv(&mut self) -> Option<Event> {
        match self.poll_event(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// An event that is there already, without waiting.
    #[deprecated = "use try_recv"]
    pub fn try_next(&mut self) -> Option<Event> {
        self.try_recv()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let mut receiving: Receiving = match std::mem::replace(&mut self.0, Listener::Ended) {
                // Outside of tokio's budget for a task, whose end would look like the end of the events to `try_recv`.
                Listener::Idle(mut receiver) => {
                    Box::pin(tokio::task::unconstrained(async move { (receiver.recv().await, receiver) }))
                }
                Listener::Waiting(receiving) => receiving,
                Listener::Closed(event) => return Poll::Ready(Some(*event)),
                Listener::Ended => return Poll::Ready(None),
            };
            let Poll::Ready((received, receiver)) = receiving.as_mut().poll(cx) else {
                self.0 = Listener::Waiting(receiving);
                return Poll::Pending;
            };
            match received {
                Ok(event) => {
                    self.0 = Listener::Idle(receiver);
                    return Poll::Ready(Some(event));
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener of events does not keep up");
                    self.0 = Listener::Idle(receiver);
                }
                Err(broadcast::error::RecvError::Closed) => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn failed(role: Role) -> Event {
        let last_error = Some(Error::new(ErrorKind::ConnectFailed, "refused"));
        Event::Recovering { role, attempt: 2, delay: Duration::from_secs(3), last_error }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_then_once_a_minute() {
        let state = EventSender::new(false).state;
        assert!(state.note(&failed(Role::Main)));
        assert!(state.note(&failed(Role::Publish)), "each connection is told of");
        let mut told = 0;
        for _ in 0..50 {
            tokio::time::advance(Duration::from_secs(3)).await;
            told += usize::from(state.note(&failed(Role::Main)));
        }
        assert_eq!(told, 2, "in 150 seconds");
        state.note(&Event::Connected { role: Role::Main, host: "h".into() });
        assert!(state.note(&failed(Role::Main)), "another outage is told at once");
    }

    #[tokio::test]
    async fn whether_publishing_is_blocked_ends_with_the_connection() {
        let events = EventSender::new(true);
        let blocked = Event::Blocked { role: Role::Publish, reason: "low on memory".into() };
        let lost = Error::new(ErrorKind::ConnectionLost, "reset");
        for end in [
            Event::Unblocked { role: Role::Publish },
            Event::Lost { role: Role::Publish, reason: lost },
            Event::Closed { role: Role::Publish, reason: None },
        ] {
            events.send(blocked.clone());
            assert!(events.is_blocked());
            events.send(end);
            assert!(!events.is_blocked());
        }
    }

    #[tokio::test]
    async fn events_are_a_stream_that_ends_with_the_client() {
        let sender = EventSender::new(false);
        let mut events = sender.subscribe();
        assert!(events.try_recv().is_none());
        sender.send(Event::Unblocked { role: Role::Main });
        assert!(matches!(
            poll_fn(|cx| Pin::new(&mut events).poll_next(cx)).await,
            Some(Event::Unblocked { .. })
        ));
        for _ in 0..KEPT + 10 {
            sender.send(Event::Unblocked { role: Role::Publish });
        }
        for _ in 0..KEPT {
            assert!(matches!(events.try_recv(), Some(Event::Unblocked { role: Role::Publish })));
        }
        assert!(events.try_recv().is_none(), "the oldest are lost");
        drop(sender);
        assert!(events.next().await.is_none() && events.next().await.is_none());
    }
}
