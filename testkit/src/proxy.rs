//! A TCP proxy on the loopback address that cuts, stalls and throttles what goes through it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    /// Counts cuts; a connection of an earlier generation is over.
    generation: u64,
    stalled: [bool; 2],
    bytes_per_second: Option<u64>,
    refuse: bool,
    swallow: bool,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    rules: watch::Sender<Rules>,
    /// Bytes after which the next connection is cut, per direction.
    cut_after: Mutex<[Option<u64>; 2]>,
    bytes: [AtomicU64; 2],
    connections: AtomicU64,
}

/// The proxy; dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// A proxy to a port on the loopback address.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(SocketAddr::from(([127, 0, 0, 1], target))),
            rules: watch::Sender::new(Rules::default()),
            cut_after: Mutex::default(),
            bytes: Default::default(),
            connections: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Self { address, shared, _tasks: tasks }
    }

    /// Where the proxy listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `amqp://` URI through the proxy, as the user guest.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}", self.address)
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }

    /// Cuts all connections, with a reset.
    pub fn cut(&self) {
        self.change(|rules| rules.generation += 1);
    }

    /// Cuts the next connection after `bytes` bytes in one direction.
    pub fn cut_after(&self, bytes: u64, direction: Direction) {
        lock(&self.shared.cut_after)[direction as usize] = Some(bytes);
    }

    /// Stops forwarding in one direction, without closing anything: half-open.
    pub fn stall(&self, direction: Direction) {
        self.change(|rules| rules.stalled[direction as usize] = true);
    }

    /// Stops forwarding in both directions.
    pub fn stall_all(&self) {
        self.change(|rules| rules.stalled = [true, true]);
    }

    /// Forwards again.
    pub fn unstall(&self) {
        self.change(|rules| rules.stalled = [false, false]);
    }

    /// Forwards at most `bytes_per_second` in each direction; `None` for no limit.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.change(|rules| rules.bytes_per_second = bytes_per_second);
    }

    /// Closes new connections at once.
    pub fn refuse(&self, refuse: bool) {
        self.change(|rules| rules.refuse = refuse);
    }

    /// Accepts new connections and says nothing on them.
    pub fn swallow(&self, swallow: bool) {
        self.change(|rules| rules.swallow = swallow);
    }

    /// Connections that were forwarded so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes that were forwarded so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.bytes[direction as usize].load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        let rules = shared.rules.borrow().clone();
        if rules.refuse {
            reset(&client);
            continue;
        }
        connections.spawn(connection(client, shared.clone(), rules.swallow));
    }
}

/// Has the peer see a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // A socket that is gone already is as good.
    let _ = stream.set_zero_linger();
}

async fn connection(client: TcpStream, shared: Arc<Shared>, swallow: bool) {
    let mut rules = shared.rules.subscribe();
    let generation = rules.borrow_and_update().generation;
    let cut = async {
        // The sender lives as long as the proxy.
        let _ = rules.wait_for(|rules| rules.generation != generation).await;
    };
    if swallow {
        cut.await;
        reset(&client);
        return;
    }
    let target = *lock(&shared.target);
    let Ok(broker) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    shared.connections.fetch_add(1, Ordering::Relaxed);
    // A small frame must not be held up by the proxy.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    reset(&client);
    reset(&broker);
    let limits = std::mem::take(&mut *lock(&shared.cut_after));
    let (client_read, client_write) = client.into_split();
    let (broker_read, broker_write) = broker.into_split();
    tokio::select! {
        biased;
        () = cut => {}
        () = pump(client_read, broker_write, &shared, Direction::ToBroker, limits[0]) => {}
        () = pump(broker_read, client_write, &shared, Direction::ToClient, limits[1]) => {}
    }
}

/// Forwards until an end, or until `limit` bytes have gone through.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    direction: Direction,
    mut limit: Option<u64>,
) {
    let mut rules = shared.rules.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if limit == Some(0) {
            return;
        }
        // The sender lives as long as the proxy.
        let _ = rules.wait_for(|rules| !rules.stalled[direction as usize]).await;
        let rate = rules.borrow().bytes_per_second;
        let mut most = buffer.len() as u64;
        if let Some(limit) = limit {
            most = most.min(limit);
        }
        if let Some(rate) = rate {
            most = most.min((rate / 20).max(1));
        }
        let count = match from.read(&mut buffer[..most as usize]).await {
            Ok(count) if count > 0 => count,
            _ => return,
        };
        // What was read when the stall began is held back too.
        let _ = rules.wait_for(|rules| !rules.stalled[direction as usize]).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        shared.bytes[direction as usize].fetch_add(count as u64, Ordering::Relaxed);
        limit = limit.map(|limit| limit - count as u64);
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate as f64)).await;
        }
    }
}
