//! What a thousand idle connections cost in one process. A file of its own: nothing else may run in the process.

use std::{fs, time::Duration};

use murano_messaging::{Client, Queue};
use murano_testkit::{Node, eventually, unique, within};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const CONNECTIONS: usize = 1_000;

/// For each connection.
const KIB: usize = 200;

/// A field of `/proc/self/status`, without its unit.
fn status(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).split_whitespace().next().unwrap().parse().unwrap()
}

/// Lets this process, and the node it starts, have a file descriptor for each connection.
fn raise_the_limit_of_files() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = 2 * CONNECTIONS as u64;
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).expect("`ulimit -Hn` is at least 2000");
    }
}

async fn connect(uri: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < count {
        // Some at a time, so that the broker need not keep a thousand handshakes in its mind.
        let batch: Vec<_> = (0..50.min(count - clients.len()))
            .map(|_| {
                let uri = uri.to_owned();
                tokio::spawn(async move { Client::connect(&uri).await })
            })
            .collect();
        for client in batch {
            clients.push(within("connecting", Duration::from_secs(30), client).await.unwrap().unwrap());
        }
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_cost_little_memory_and_no_threads() {
    raise_the_limit_of_files();
    let node = Node::start().await;
    // What the first ones need for all.
    let first = connect(&node.uri(), 50).await;
    let (memory, threads) = (status("VmRSS"), status("Threads"));
    let clients = connect(&node.uri(), CONNECTIONS).await;
    let cost = || status("VmRSS").saturating_sub(memory);
    eventually("their memory is what was promised", Duration::from_secs(10), || async {
        cost() <= CONNECTIONS * KIB
    })
    .await;
    assert!(status("Threads") <= threads, "{} threads, {threads} before", status("Threads"));
    println!("{} KiB for each", cost() / CONNECTIONS);

    // They are all there, and work.
    let queue = node_queue(&first[0]).await;
    for client in &clients {
        assert_eq!(client.queue_info(&queue).await.unwrap().message_count, 0);
        assert_eq!(client.stats().reconnects, 0);
    }
    let connections = node.ctl(&["list_connections", "pid", "--silent"]).await.unwrap();
    assert_eq!(connections.lines().filter(|line| line.starts_with('<')).count(), CONNECTIONS + first.len());
    assert!(cost() <= CONNECTIONS * KIB, "{} KiB for each after some work", cost() / CONNECTIONS);
}

async fn node_queue(client: &Client) -> String {
    client.declare_queue(&Queue::new(unique("q"))).await.unwrap().name
}
