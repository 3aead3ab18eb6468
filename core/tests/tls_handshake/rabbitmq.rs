//! The same, where it depends on what `RabbitMQ` says: client certificates.

use murano_messaging::{Options, TlsFailure, TlsOptions};
use murano_testkit::Node;

use super::{Authority, assert_error, for_names};

async fn client_certificates(versions: &str) {
    let node = Node::builder().client_certificates().config(versions).start().await;
    let certs = node.certs();
    let options = || Options::from_uri(&node.tls_uri()).expect("a URI");
    let trusting = || TlsOptions::new().ca_file(&certs.ca);

    let accepted = options().tls(trusting().identity_files(&certs.client, &certs.client_key));
    let client = accepted.connect().await.expect("the certificate is trusted");
    client.close().await.expect("an orderly end");

    let error = options().tls(trusting()).connect().await.expect_err("a certificate is required");
    assert_error(&error, TlsFailure::ClientCertificateRequired);

    let stranger = Authority::new("another CA").issue(&for_names(&["client.test"]));
    let tls = trusting().identity_pem(stranger.pem(), stranger.key_pem());
    let error = options().tls(tls).connect().await.expect_err("the certificate is not trusted");
    assert_error(&error, TlsFailure::ClientCertificateRefused);
}

#[tokio::test]
async fn rabbitmq_wants_client_certificates_in_tls_1_2() {
    client_certificates("ssl_options.versions.1 = tlsv1.2").await;
}

#[tokio::test]
async fn rabbitmq_wants_client_certificates_in_tls_1_3() {
    client_certificates("ssl_options.versions.1 = tlsv1.3").await;
}
