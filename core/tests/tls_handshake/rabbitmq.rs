//! The same, where it depends on what `RabbitMQ` says: client certificates.

use murano_messaging::{Connector, ErrorKind, Mechanism, Options, TcpConnector, TlsFailure, TlsOptions};
use murano_testkit::{Node, eventually};

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

#[tokio::test]
async fn amqp_to_the_tls_port_of_rabbitmq_says_amqps() {
    let node = Node::builder().tls().start().await;
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
