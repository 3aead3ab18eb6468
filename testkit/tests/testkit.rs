//! The kit does what it says.

use std::time::Duration;

use murano_testkit::{Direction, Node, Proxy, broker_version, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_answers_its_tool_and_survives_a_kill() {
    let mut node = Node::start().await;
    let pid = node.pid();
    let names = node.ctl(&["list_vhosts", "--silent"]).await.unwrap();
    assert_eq!(names.trim(), "/");
    let (major, minor) = broker_version(&node.uri());
    let version = node.eval("rabbit_misc:version().").await.unwrap();
    assert!(version.contains(&format!("\"{major}.{minor}.")), "{version}");
    node.ctl(&["add_vhost", "kept"]).await.unwrap();
    node.kill();
    assert!(TcpStream::connect(("127.0.0.1", node.port())).await.is_err());
    node.start_again();
    assert_ne!(node.pid(), pid);
    let names = node.ctl(&["list_vhosts", "--silent"]).await.unwrap();
    assert!(names.contains("kept"), "{names}");
}

#[tokio::test]
async fn the_proxy_cuts_at_the_byte_that_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port()).await;
    for limit in [1, 7, 1000] {
        proxy.cut_after(limit, Direction::ToBroker);
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        // More than the limit; the rest is lost.
        let _ = client.write_all(&[1; 5000]).await;
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) =
            within("the cut arrives", Duration::from_secs(5), server.read(&mut buffer)).await
        {
            received.extend_from_slice(&buffer[..count]);
        }
        assert!(received.len() as u64 <= limit, "{} of {limit}", received.len());
    }
    assert_eq!(proxy.bytes(Direction::ToBroker), 1008);
}

#[tokio::test]
async fn a_stalled_proxy_holds_everything_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port()).await;
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.stall_all();
    client.write_all(b"x").await.unwrap();
    let mut byte = [0];
    let waited = tokio::time::timeout(Duration::from_millis(300), server.read_exact(&mut byte)).await;
    assert!(waited.is_err(), "nothing may come through");
    proxy.unstall();
    within("the byte comes", Duration::from_secs(5), server.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"x");
}
