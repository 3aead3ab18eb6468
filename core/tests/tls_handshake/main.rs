//! Each check of a TLS handshake that can fail has its own error, and what should be accepted is.

mod certificates;
mod material;
mod matrix;
mod openssl;
mod rabbitmq;
mod sessions;

use std::{path::PathBuf, time::Duration};

use certificates::{
    ANY_VERSION, Authority, Identity, Server, for_names, self_signed, self_signed_for, server_config,
};
use murano_messaging::{
    Connector, Error, ErrorKind, Host, Options, Result, Stream, TcpConnector, TlsFailure, TlsOptions,
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    self,
    version::{TLS12, TLS13},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Connects as far as TLS.
async fn connect(server: &Server, tls: &TlsOptions) -> Result<Stream> {
    let host = Host::new("127.0.0.1", server.port);
    tokio::time::timeout(DEADLINE, TcpConnector.connect(&host, Some(tls)))
        .await
        .expect("a TLS handshake does not hang")
}

/// Connects a client, which continues with the AMQP handshake.
async fn connect_client(server: &Server, tls: TlsOptions) -> Error {
    let options = Options::new().host("127.0.0.1", server.port).tls(tls).connect_timeout(DEADLINE);
    match tokio::time::timeout(2 * DEADLINE, options.connect()).await.expect("connecting does not hang") {
        Ok(_) => panic!("connected to a server that speaks no AMQP"),
        Err(error) => error,
    }
}

#[track_caller]
fn assert_failure(result: Result<Stream>, wanted: TlsFailure) {
    match result {
        Ok(_) => panic!("the handshake succeeded instead of failing with {wanted:?}"),
        Err(error) => assert_error(&error, wanted),
    }
}

#[track_caller]
fn assert_error(error: &Error, wanted: TlsFailure) {
    assert_eq!((error.kind(), error.tls_failure()), (ErrorKind::Tls, Some(wanted)), "{error:?}");
}

#[track_caller]
fn assert_accepted(result: Result<Stream>) {
    if let Err(error) = result {
        panic!("the handshake failed: {error:?}");
    }
}

async fn serve(identity: &Identity) -> Server {
    Server::tls(server_config(identity, None, ANY_VERSION)).await
}

#[tokio::test]
async fn own_ca_is_trusted_by_tls_1_2_and_1_3() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    for version in [&TLS12, &TLS13] {
        let server = Server::tls(server_config(&identity, None, &[version])).await;
        assert_accepted(connect(&server, &TlsOptions::new().ca_pem(authority.pem())).await);
    }
}

#[tokio::test]
async fn expired_certificate() {
    let authority = Authority::new("our CA");
    let mut params = for_names(&["127.0.0.1"]);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let server = serve(&authority.issue(&params)).await;
    assert_failure(connect(&server, &TlsOptions::new().ca_pem(authority.pem())).await, TlsFailure::Expired);
}

#[tokio::test]
async fn certificate_that_is_not_valid_yet() {
    let authority = Authority::new("our CA");
    let mut params = for_names(&["127.0.0.1"]);
    params.not_before = date_time_ymd(3000, 1, 1);
    params.not_after = date_time_ymd(3001, 1, 1);
    let server = serve(&authority.issue(&params)).await;
    assert_failure(connect(&server, &TlsOptions::new().ca_pem(authority.pem())).await, TlsFailure::Expired);
}

#[tokio::test]
async fn wrong_host_name() {
    let authority = Authority::new("our CA");
    let mut server = serve(&authority.issue(&for_names(&["broker.test"]))).await;
    let tls = TlsOptions::new().ca_pem(authority.pem());
    assert_failure(connect(&server, &tls).await, TlsFailure::WrongName);
    assert_failure(connect(&server, &tls.clone().server_name("other.test")).await, TlsFailure::WrongName);
    // A name that is only to be checked, or not at all.
    assert_accepted(connect(&server, &tls.clone().server_name("broker.test")).await);
    assert_accepted(connect(&server, &tls.clone().server_name("broker.test").disable_sni()).await);
    assert_accepted(connect(&server, &tls.clone().verify_hostname(false)).await);
    let mut asked = Vec::new();
    while asked.len() < 3 {
        let handshake = tokio::time::timeout(DEADLINE, server.handshakes.recv()).await;
        asked.extend(handshake.expect("the server answers").expect("it runs"));
    }
    assert_eq!(asked, [Some("broker.test".to_owned()), None, None]);
    // Without the name the chain is still checked.
    let stranger = Authority::new("another CA");
    let tls = TlsOptions::new().ca_pem(stranger.pem()).verify_hostname(false);
    assert_failure(connect(&server, &tls).await, TlsFailure::UnknownIssuer);
}

#[tokio::test]
async fn unknown_ca() {
    let server = serve(&Authority::new("their CA").issue(&for_names(&["127.0.0.1"]))).await;
    let tls = TlsOptions::new().ca_pem(Authority::new("our CA").pem());
    assert_failure(connect(&server, &tls).await, TlsFailure::UnknownIssuer);
}

#[tokio::test]
async fn self_signed_certificate() {
    for authority in [false, true] {
        let identity = self_signed(authority);
        let server = serve(&identity).await;
        let unrelated = TlsOptions::new().ca_pem(Authority::new("our CA").pem());
        let error = connect(&server, &unrelated).await.err().expect("it is not trusted");
        assert_error(&error, TlsFailure::UnknownIssuer);
        assert!(error.to_string().contains("self-signed"), "{error}");
        assert_failure(connect(&server, &unrelated.pinned(true)).await, TlsFailure::UnknownIssuer);
        assert_accepted(connect(&server, &TlsOptions::new().ca_pem(identity.pem()).pinned(true)).await);
        assert_accepted(connect(&server, &TlsOptions::new().insecure(true)).await);
    }
    // One that is no authority is trusted when it is given; an authority that is shown as the broker's own certificate is not
    // accepted unless it is pinned.
    let identity = self_signed(false);
    let server = serve(&identity).await;
    assert_accepted(connect(&server, &TlsOptions::new().ca_pem(identity.pem())).await);
    let identity = self_signed(true);
    let server = serve(&identity).await;
    let tls = TlsOptions::new().ca_pem(identity.pem());
    assert_failure(connect(&server, &tls).await, TlsFailure::UnknownIssuer);
}

#[tokio::test]
async fn pinned_certificate_outside_its_dates() {
    for authority in [false, true] {
        for years in [(2020, 2021), (3000, 3001)] {
            let identity = self_signed_for(authority, |params| {
                params.not_before = date_time_ymd(years.0, 1, 1);
                params.not_after = date_time_ymd(years.1, 1, 1);
            });
            let server = serve(&identity).await;
            let tls = TlsOptions::new().ca_pem(identity.pem()).pinned(true);
            assert_failure(connect(&server, &tls).await, TlsFailure::Expired);
        }
    }
}

#[tokio::test]
async fn authority_that_has_expired() {
    // A trusted one is a name and a key: webpki looks at the dates of what it issued only.
    let authority = Authority::with("our CA", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let server = serve(&authority.issue(&for_names(&["127.0.0.1"]))).await;
    assert_accepted(connect(&server, &TlsOptions::new().ca_pem(authority.pem())).await);
}

#[tokio::test]
async fn authority_as_the_brokers_own_certificate() {
    let authority = Authority::new("our CA");
    let mut params = for_names(&["127.0.0.1"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let identity = authority.issue(&params);
    let server = serve(&identity).await;
    let tls = TlsOptions::new().ca_pem(authority.pem());
    assert_failure(connect(&server, &tls).await, TlsFailure::UnsupportedCertificate);
    assert_failure(connect(&server, &tls.pinned(true)).await, TlsFailure::UnsupportedCertificate);
    assert_accepted(connect(&server, &TlsOptions::new().ca_pem(identity.pem()).pinned(true)).await);
}

#[tokio::test]
async fn certificate_that_is_not_for_servers() {
    let authority = Authority::new("our CA");
    let mut params = for_names(&["127.0.0.1"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let server = serve(&authority.issue(&params)).await;
    let tls = TlsOptions::new().ca_pem(authority.pem());
    assert_failure(connect(&server, &tls).await, TlsFailure::UnsupportedCertificate);
}

#[tokio::test]
async fn insecure_accepts_any_certificate() {
    let authority = Authority::new("nobody's CA");
    let mut params = for_names(&["broker.test"]);
    params.not_after = date_time_ymd(2021, 1, 1);
    params.not_before = date_time_ymd(2020, 1, 1);
    let server = serve(&authority.issue(&params)).await;
    assert_accepted(connect(&server, &TlsOptions::new().insecure(true)).await);
}

#[tokio::test]
async fn x509_v1_certificate() {
    let authority = Authority::new("our CA");
    let server = serve(&authority.issue_v1()).await;
    let tls = TlsOptions::new().ca_pem(authority.pem());
    let error = connect(&server, &tls).await.err().expect("version 1 is not accepted");
    assert_error(&error, TlsFailure::UnsupportedCertificate);
    // Not because the certificate was made badly: apart from its version it is a good one.
    let cause = std::error::Error::source(&error).expect("rustls said why");
    let cause = cause.downcast_ref::<rustls::Error>().expect("rustls said why");
    assert!(
        matches!(cause, rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_))),
        "{cause:?}"
    );
}

#[tokio::test]
async fn client_certificate_missing() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    for version in [&TLS12, &TLS13] {
        let server = Server::tls(server_config(&identity, Some(&authority), &[version])).await;
        let error = connect_client(&server, TlsOptions::new().ca_pem(authority.pem())).await;
        assert_error(&error, TlsFailure::ClientCertificateRequired);
    }
}

#[tokio::test]
async fn handshake_failure_before_anything_is_agreed() {
    // The alert that RabbitMQ also sends, in TLS 1.2, to a client without a certificate: here it asked for none.
    let server = Server::raw(vec![21, 3, 3, 0, 2, 2, 40]).await;
    let error = connect_client(&server, TlsOptions::new().insecure(true)).await;
    assert_error(&error, TlsFailure::NothingInCommon);
}

#[tokio::test]
async fn client_certificate_untrusted() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    let stranger = Authority::new("another CA").issue(&for_names(&["client.test"]));
    for version in [&TLS12, &TLS13] {
        let server = Server::tls(server_config(&identity, Some(&authority), &[version])).await;
        let tls = TlsOptions::new().ca_pem(authority.pem()).identity_pem(stranger.pem(), stranger.key_pem());
        assert_error(&connect_client(&server, tls).await, TlsFailure::ClientCertificateRefused);
    }
}

#[tokio::test]
async fn client_keys_in_every_form() {
    let authority = Authority::new("our CA");
    let broker = authority.issue(&for_names(&["127.0.0.1"]));
    let mut server = Server::tls(server_config(&broker, Some(&authority), ANY_VERSION)).await;
    for (pkcs8, other) in [
        (include_str!("keys/rsa.pkcs8.pem"), include_str!("keys/rsa.pkcs1.pem")),
        (include_str!("keys/ec.pkcs8.pem"), include_str!("keys/ec.sec1.pem")),
    ] {
        let key = KeyPair::from_pem(pkcs8).expect("a key");
        let client = authority.issue_for(&for_names(&["client.test"]), key);
        for key in [pkcs8, other] {
            let tls = TlsOptions::new().ca_pem(authority.pem()).identity_pem(client.pem(), key);
            assert_accepted(connect(&server, &tls).await);
            // In TLS 1.3 the client is done before the server has looked at the certificate.
            let handshake = tokio::time::timeout(DEADLINE, server.handshakes.recv()).await;
            handshake.expect("the server answers").expect("it runs").expect("the certificate is accepted");
        }
    }
}

#[tokio::test]
async fn only_tls_1_0() {
    let alert = vec![21, 3, 1, 0, 2, 2, 70];
    let mut server_hello = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    server_hello.extend([7; 32]);
    // No session id, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
    server_hello.extend([0, 0, 0x2f, 0]);
    for answer in [alert, server_hello] {
        let server = Server::raw(answer).await;
        let result = connect(&server, &TlsOptions::new().insecure(true)).await;
        assert_failure(result, TlsFailure::ProtocolVersion);
    }
}

#[tokio::test]
async fn peer_that_does_not_speak_tls() {
    for answer in [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let server = Server::raw(answer.to_vec()).await;
        assert_failure(connect(&server, &TlsOptions::new().insecure(true)).await, TlsFailure::NotTls);
    }
}

#[tokio::test]
async fn peer_that_closes_during_the_handshake() {
    let server = Server::raw(Vec::new()).await;
    assert_failure(connect(&server, &TlsOptions::new().insecure(true)).await, TlsFailure::Other);
}

/// A directory of its own, removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn changed_files_are_used_at_the_next_connect() {
    let authority = Authority::new("our CA");
    let broker = authority.issue(&for_names(&["127.0.0.1"]));
    let client = authority.issue(&for_names(&["client.test"]));
    let mut server = Server::tls(server_config(&broker, Some(&authority), ANY_VERSION)).await;
    let directory = Directory::new("changed-files");
    let ca = directory.write("ca.pem", &Authority::new("the CA before").pem());
    let chain = directory.write("client.pem", &client.pem());
    let key = directory.write("client.key", &client.key_pem());
    let tls = TlsOptions::new().ca_file(&ca).identity_files(&chain, &key);
    assert_failure(connect(&server, &tls).await, TlsFailure::UnknownIssuer);
    server.handshakes.recv().await.expect("it runs").expect_err("the client did not trust the server");
    directory.write("ca.pem", &authority.pem());
    assert_accepted(connect(&server, &tls).await);
    server.handshakes.recv().await.expect("it runs").expect("the certificate is accepted");
}

#[tokio::test]
async fn material_that_cannot_be_used_is_an_invalid_argument() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    let other = authority.issue(&for_names(&["127.0.0.1"]));
    let server = serve(&identity).await;
    let trusting = || TlsOptions::new().ca_pem(authority.pem());
    for tls in [
        TlsOptions::new().ca_pem("no PEM at all"),
        TlsOptions::new().ca_pem(identity.key_pem()),
        TlsOptions::new().ca_file("/nowhere/ca.pem"),
        trusting().identity_files("/nowhere/client.pem", "/nowhere/client.key"),
        trusting().identity_pem(identity.key_pem(), identity.pem()),
        trusting().identity_pem(identity.pem(), other.key_pem()),
        trusting().server_name("not a name"),
    ] {
        let error = connect(&server, &tls).await.err().unwrap_or_else(|| panic!("{tls:?} was accepted"));
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn debug_shows_no_key() {
    let identity = self_signed(false);
    let shown = format!("{:?}", TlsOptions::new().identity_pem(identity.pem(), identity.key_pem()));
    assert!(!shown.contains("PRIVATE"), "{shown}");
    assert!(!shown.contains('['), "{shown}");
}
