//! Logins to the embedded broker, in the clear and over TLS.

use std::{sync::Arc, time::Duration};

use murano_messaging::{Broker, Client, Error, ErrorKind, Mechanism, Options, ServerTls, TlsOptions};
use murano_testkit::{Certs, within};

const STEP: Duration = Duration::from_secs(20);

fn options(broker: &Broker) -> Options {
    Options::new().connector(Arc::new(broker.clone()))
}

async fn connect(options: Options) -> Result<Client, Error> {
    within("connecting", STEP, options.connect()).await
}

#[tokio::test]
async fn users_virtual_hosts_and_mechanisms() {
    let broker = Broker::new();
    broker.add_user("ann", "s€cret");
    broker.add_vhost("murano");
    for mechanism in [Mechanism::Plain, Mechanism::AmqPlain] {
        let good = options(&broker).credentials("ann", "s€cret").mechanism(mechanism).vhost("murano");
        connect(good).await.unwrap().close().await.unwrap();
        let bad = options(&broker).credentials("ann", "secret").mechanism(mechanism);
        assert_eq!(connect(bad).await.unwrap_err().kind(), ErrorKind::Authentication);
    }
    let error = connect(options(&broker).vhost("nope")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VhostRefused);
    assert_eq!(error.reply_text(), Some("NOT_ALLOWED - vhost nope not found"));
    broker.remove_user("ann");
    let error = connect(options(&broker).credentials("ann", "s€cret")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    let external = || options(&broker).mechanism(Mechanism::External);
    let error = connect(external()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    // There is no user name or password to check.
    assert!(error.to_string().contains("ssl_cert_login_from"), "{error}");
    assert!(!error.to_string().contains("guest"), "{error}");
    broker.external_user(Some("ann"));
    connect(external()).await.unwrap();
}

#[tokio::test]
async fn tls_with_and_without_client_certificates() {
    let folder = std::env::temp_dir().join(murano_testkit::unique("broker-tls"));
    std::fs::create_dir_all(&folder).unwrap();
    let certs = Certs::generate(&folder).unwrap();
    let broker = Broker::new();
    broker.external_user(Some("agent"));
    let tls = ServerTls::files(&certs.server, &certs.server_key);
    let open = broker.listen_tls(("127.0.0.1", 0), &tls).await.unwrap();
    let strict = broker.listen_tls(("127.0.0.1", 0), &tls.client_ca_file(&certs.ca)).await.unwrap();
    let to = |port: u16, tls: TlsOptions| {
        Options::from_uri(&format!("amqps://guest:guest@localhost:{port}")).unwrap().tls(tls)
    };
    let trusting = || TlsOptions::new().ca_file(&certs.ca);
    connect(to(open.port(), trusting())).await.unwrap();
    assert_eq!(connect(to(open.port(), TlsOptions::new())).await.unwrap_err().kind(), ErrorKind::Tls);
    // Without a client certificate EXTERNAL has nothing to go by.
    let external = to(open.port(), trusting()).mechanism(Mechanism::External);
    assert_eq!(connect(external).await.unwrap_err().kind(), ErrorKind::Authentication);
    assert_eq!(connect(to(strict.port(), trusting())).await.unwrap_err().kind(), ErrorKind::Tls);
    let identity = || trusting().identity_files(&certs.client, &certs.client_key);
    connect(to(strict.port(), identity())).await.unwrap();
    connect(to(strict.port(), identity()).mechanism(Mechanism::External)).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_closed_port_takes_no_more_connections() {
    let broker = Broker::new();
    let listening = broker.listen(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("amqp://guest:guest@{}", listening.address());
    let client = Client::connect(&uri).await.unwrap();
    drop(listening);
    murano_testkit::eventually("the port is closed", STEP, || async {
        Client::connect(&uri).await.is_err_and(|error| error.kind() == ErrorKind::ConnectFailed)
    })
    .await;
    client.declare_queue(&murano_messaging::Queue::new("q")).await.unwrap();
}
