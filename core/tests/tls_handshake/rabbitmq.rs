//! The same, where it depends on what `RabbitMQ` says: client certificates.

use murano_messaging::{Connector, ErrorKind, Mechanism, Options, TcpConnector, TlsFailure, TlsOptions};
use murano_testkit::{Node, eventually, free_port};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

use tokio::sync::OnceCell;

use super::{Authority, DEADLINE, assert_error, for_names};

async fn client_certificates(versions: &str) {
    let node = Node::builder()
        .client_certificates()
        .plugin("rabbitmq_auth_mechanism_ssl")
        .config("auth_mechanisms.1 = PLAIN")
        .config("auth_mechanisms.2 = EXTERNAL")
        .config("ssl_cert_login_from = common_name")
        .config(versions)
        .start()
        .await;
    let certs = node.certs();
    let options = || Options::from_uri(&node.tls_uri()).expect("a URI");
    // The node counts as started when it answers without TLS.
    let listener = options().host_list()[0].clone();
    eventually("the TLS listener is there", DEADLINE, || async {
        TcpConnector.connect(&listener, None).await.is_ok()
    })
    .await;
    let trusting = || TlsOptions::new().ca_file(&certs.ca);

    let accepted = options().tls(trusting().identity_files(&certs.client, &certs.client_key));
    let client = accepted.connect().await.expect("the certificate is trusted");
    client.close().await.expect("an orderly end");

    // The certificate is that of `guest`: it logs in with it alone.
    let external = options()
        .credentials("nobody", "no password")
        .mechanism(Mechanism::External)
        .tls(trusting().identity_files(&certs.client, &certs.client_key));
    let client = external.connect().await.expect("the certificate says who it is");
    client.close().await.expect("an orderly end");

    let error = options().tls(trusting()).connect().await.expect_err("a certificate is required");
    assert_error(&error, TlsFailure::ClientCertificateRequired);

    let stranger = Authority::new("another CA").issue(&for_names(&["client.test"]));
    let tls = trusting().identity_pem(stranger.pem(), stranger.key_pem());
    let error = options().tls(tls).connect().await.expect_err("the certificate is not trusted");
    assert_error(&error, TlsFailure::ClientCertificateRefused);
}

/// A node for tests that do not disturb each other.
async fn node_with_tls() -> &'static Node {
    static NODE: OnceCell<Node> = OnceCell::const_new();
    NODE.get_or_init(|| Node::builder().tls().start()).await
}

#[tokio::test]
async fn amqp_to_the_tls_port_of_rabbitmq_says_amqps() {
    let node = node_with_tls().await;
    let listener = Options::from_uri(&node.tls_uri()).expect("a URI").host_list()[0].clone();
    eventually("the TLS listener is there", DEADLINE, || async {
        TcpConnector.connect(&listener, None).await.is_ok()
    })
    .await;
    let options = Options::new().host(listener.host, listener.port).connect_timeout(DEADLINE);
    let error = options.connect().await.expect_err("it is the TLS port");
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
    assert!(error.to_string().contains("amqps://"), "{error}");
}

#[tokio::test]
async fn rabbitmq_wants_client_certificates_in_tls_1_2() {
    client_certificates("ssl_options.versions.1 = tlsv1.2").await;
}

#[tokio::test]
async fn rabbitmq_wants_client_certificates_in_tls_1_3() {
    client_certificates("ssl_options.versions.1 = tlsv1.3").await;
}

/// A listener for each kind of certificate.
#[tokio::test]
async fn rabbitmq_with_every_kind_of_key_in_both_versions() {
    let node = node_with_tls().await;
    let folder = node.certs().ca.parent().expect("it is in the node's folder").to_owned();
    let authority = Authority::new("our CA");
    let ca = folder.join("our-ca.pem");
    std::fs::write(&ca, authority.pem()).expect("the node's folder can be written");
    for (kind, key) in [
        ("rsa", KeyPair::from_pem(include_str!("keys/rsa.pkcs8.pem"))),
        ("p256", KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)),
        ("p384", KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)),
        ("ed25519", KeyPair::from_pem(include_str!("keys/ed25519.pkcs8.pem"))),
    ] {
        let identity = authority.issue_for(&for_names(&["127.0.0.1"]), key.expect("a key"));
        let (certificate, key) = (folder.join(format!("{kind}.pem")), folder.join(format!("{kind}.key")));
        std::fs::write(&certificate, identity.pem()).expect("the node's folder can be written");
        std::fs::write(&key, identity.key_pem()).expect("the node's folder can be written");
        for version in ["tlsv1.2", "tlsv1.3"] {
            let port = free_port();
            let options = format!(
                "[{{certfile, \"{}\"}}, {{keyfile, \"{}\"}}, {{versions, ['{version}']}}]",
                certificate.display(),
                key.display()
            );
            let start =
                format!("rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}}}, {options}, 1).");
            let said = node.eval(&start).await.expect("the listener starts");
            let tls = TlsOptions::new().ca_file(&ca);
            let options = Options::new().host("127.0.0.1", port).tls(tls).connect_timeout(DEADLINE);
            let client = match options.connect().await {
                Ok(client) => client,
                // Erlang 25 has Ed25519 in TLS 1.3 only.
                Err(error) if (kind, version) == ("ed25519", "tlsv1.2") => {
                    assert_error(&error, TlsFailure::NothingInCommon);
                    assert!(error.to_string().contains("TLS 1.3"), "{error}");
                    continue;
                }
                Err(error) => panic!("{kind}, {version}: {error:?} ({said})"),
            };
            client.close().await.expect("an orderly end");
        }
    }
}
