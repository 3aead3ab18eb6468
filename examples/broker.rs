//! The embedded broker on a port, for programs in several processes and for other clients. For tests and development:
//! it keeps nothing on disk.
//!
//! `cargo run --release --example broker -- 5673`, then `amqp://guest:guest@127.0.0.1:5673`

use murano_messaging::Broker;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |text| text.parse::<u16>());
    let Ok(port) = port else {
        eprintln!("usage: broker [PORT]    (0, the default, takes a free one)");
        std::process::exit(2);
    };
    let broker = Broker::new();
    let listening = broker.listen(("127.0.0.1", port)).await?;
    println!("amqp://guest:guest@{}    (in memory: what it holds is gone when it ends)", listening.address());
    tokio::signal::ctrl_c().await
}
