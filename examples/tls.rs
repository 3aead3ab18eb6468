//! TLS with an authority of one's own, and a client certificate if there is one.
//!
//! `cargo run --example tls -- amqps://guest:guest@localhost ca.pem [client.pem client.key]`

use murano_messaging::{Message, Options, Queue, Result, TlsOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_else(|| "amqps://localhost".into());
    let mut tls = TlsOptions::new();
    if let Some(ca) = arguments.next() {
        tls = tls.ca_file(ca);
    }
    if let (Some(certificate), Some(key)) = (arguments.next(), arguments.next()) {
        tls = tls.identity_files(certificate, key);
    }
    let client = match Options::from_uri(&uri)?.tls(tls).connect().await {
        Ok(client) => client,
        Err(error) => {
            // Says which check failed: expired, wrong name, unknown issuer ...
            eprintln!("{error} ({:?})", error.tls_failure());
            std::process::exit(1);
        }
    };
    let queue = client.declare_queue(&Queue::server_named().exclusive(true)).await?;
    client.publish("", &queue.name, Message::text("over TLS")).await?;
    let back = client.get_no_ack(&queue.name).await?;
    println!("{}", back.map_or_else(String::new, |back| String::from_utf8_lossy(back.body()).into_owned()));
    client.close().await
}
