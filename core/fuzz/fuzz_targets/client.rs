//! A whole client against a server that sends arbitrary bytes, behind a handshake when the first byte is odd.
#![no_main]

use std::{sync::Arc, time::Duration};

use libfuzzer_sys::fuzz_target;
use murano_messaging::{
    Client, Connecting, Connector, Host, Message, Options, Queue, Recovery, Stream, TlsOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `connection.start`, `connection.tune` and `connection.open-ok`.
const OPENED: &[u8] = b"\x01\0\0\0\0\0\x1C\0\x0A\0\x0A\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US\xCE\
    \x01\0\0\0\0\0\x0C\0\x0A\0\x1E\0\x10\0\0\x10\0\0\0\xCE\x01\0\0\0\0\0\x05\0\x0A\0\x29\0\xCE";

struct Server(Vec<u8>);

impl Connector for Server {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let bytes = self.0.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(theirs);
                // The client may be gone by then.
                let _ = write.write_all(&bytes).await;
                let _ =
                    tokio::time::timeout(Duration::from_secs(30), read.read_to_end(&mut Vec::new())).await;
            });
            Ok(Stream::new(ours, "fuzzer"))
        })
    }
}

async fn use_up(client: Client) {
    let consuming = async {
        if let Ok(consumer) = client.consume("q").start().await {
            while let Some(Ok(delivery)) = consumer.next().await {
                let _ = delivery.ack();
            }
        }
    };
    let queue = Queue::new("q");
    let _ = tokio::join!(
        tokio::time::timeout(Duration::from_secs(3), consuming),
        client.declare_queue(&queue),
        client.get_with_ack("q"),
        client.publish("", "q", Message::text("x")),
    );
    let _ = client.close().await;
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let opened = if first & 1 == 1 { OPENED } else { &[] };
    let options = Options::new()
        .connector(Arc::new(Server([opened, bytes].concat())))
        .seed(1)
        .connect_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(1))
        .separate_publish_connection(first & 2 == 2)
        .recovery(Recovery { enabled: false, ..Recovery::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        if let Ok(client) = options.connect().await {
            use_up(client).await;
        }
    });
});
