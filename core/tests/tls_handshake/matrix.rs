//! What a broker may show, and what becomes of it: a table, against OpenSSL, in TLS 1.2 and 1.3.
//!
//! Each refusal is one plain sentence that says what is wrong and what to do.

use murano_messaging::{Connector, Error, ErrorKind, Host, TcpConnector, TlsFailure, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SanType, date_time_ymd,
};

use super::{
    DEADLINE,
    openssl::{OpenSsl, Shown},
};

type Ca = CertifiedIssuer<'static, KeyPair>;

/// Accepted, or refused at a check with these words.
type Wanted = Result<(), (TlsFailure, &'static str)>;

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root(key: KeyPair) -> Ca {
    CertifiedIssuer::self_signed(ca_params("the root"), key).expect("an authority")
}

fn below(above: &Ca, name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params(name);
    change(&mut params);
    CertifiedIssuer::signed_by(params, key, above).expect("an authority")
}

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn rsa() -> KeyPair {
    KeyPair::from_pem(include_str!("keys/rsa.pkcs8.pem")).expect("a key")
}

/// OpenSSL 3.0 does not read what ring makes (PKCS#8 of version 2).
fn ed25519() -> KeyPair {
    KeyPair::from_pem(include_str!("keys/ed25519.pkcs8.pem")).expect("a key")
}

/// A row of the table: what the server shows, whom the client trusts and which name it expects, and what becomes of it.
struct Row {
    what: &'static str,
    shown: Shown,
    trusted: String,
    name: &'static str,
    wanted: Wanted,
}

#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // Each is a column.
fn row(
    what: &'static str,
    issuer: &Ca,
    params: &CertificateParams,
    key: KeyPair,
    chain: &[&Ca],
    trusted: &Ca,
    name: &'static str,
    wanted: Wanted,
) -> Row {
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let shown = Shown {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        chain: chain.iter().map(|one| one.pem()).collect(),
    };
    Row { what, shown, trusted: trusted.pem(), name, wanted }
}

#[allow(clippy::too_many_lines)] // It is a table.
fn table() -> Vec<Row> {
    use TlsFailure::{Expired, UnknownIssuer, UnsupportedCertificate, WrongName};
    let ca = root(p256());
    let one = below(&ca, "the first intermediate", p256(), |_| {});
    let two = below(&one, "the second intermediate", p256(), |_| {});
    let local = leaf(&["localhost"]);
    let mut rows = Vec::new();

    // Every kind of key, through all of a chain.
    for (what, make) in [
        ("RSA", rsa as fn() -> KeyPair),
        ("P-256", p256),
        ("P-384", || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key")),
        ("Ed25519", ed25519),
    ] {
        let ca = root(make());
        let middle = below(&ca, "an intermediate", make(), |_| {});
        rows.push(row(what, &middle, &local, make(), &[&middle], &ca, "localhost", Ok(())));
    }

    // The chain.
    let cases: [(&'static str, &[&Ca], Wanted); 5] = [
        ("a whole chain", &[&two, &one], Ok(())),
        ("a chain in the wrong order", &[&one, &two], Ok(())),
        ("a chain with its root", &[&two, &one, &ca], Ok(())),
        ("no intermediates", &[], Err((UnknownIssuer, "must send that one's certificate too"))),
        ("one intermediate of two", &[&two], Err((UnknownIssuer, "issued by nobody who is trusted here"))),
    ];
    for (what, chain, wanted) in cases {
        rows.push(row(what, &two, &local, p256(), chain, &ca, "localhost", wanted));
    }
    let stale = below(&ca, "a stale intermediate", p256(), |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let expired = Err((Expired, "or one of its chain, has expired"));
    rows.push(row("an expired intermediate", &stale, &local, p256(), &[&stale], &ca, "localhost", expired));
    rows.push(row(
        "an intermediate that is trusted itself",
        &two,
        &local,
        p256(),
        &[],
        &two,
        "localhost",
        Ok(()),
    ));
    let childless = below(&ca, "a childless CA", p256(), |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let child = below(&childless, "its child", p256(), |_| {});
    let pathlen = Err((UnsupportedCertificate, "may not issue any (CA:FALSE, or pathlen)"));
    rows.push(row("a CA too deep", &child, &local, p256(), &[&child, &childless], &ca, "localhost", pathlen));

    // Names.
    let mut address = leaf(&[]);
    address.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let mut address_as_name = leaf(&[]);
    address_as_name.subject_alt_names = vec![SanType::DnsName("127.0.0.1".try_into().expect("text"))];
    let wildcard = leaf(&["*.brokers.test"]);
    let not_the_host = |text| Err((WrongName, text));
    for (what, params, name, wanted) in [
        ("an address", &address, "127.0.0.1", Ok(())),
        ("another address", &address, "127.0.0.2", not_the_host("is for 127.0.0.1, not for '127.0.0.2'")),
        (
            "an address for a name",
            &address,
            "localhost",
            not_the_host("is for 127.0.0.1, not for 'localhost'"),
        ),
        ("an address written as a name", &address_as_name, "127.0.0.1", not_the_host("not for '127.0.0.1'")),
        ("a wildcard", &wildcard, "one.brokers.test", Ok(())),
        ("a wildcard is one label", &wildcard, "a.one.brokers.test", not_the_host("is for *.brokers.test")),
        ("a wildcard is not its parent", &wildcard, "brokers.test", not_the_host("is for *.brokers.test")),
        ("a common name only", &leaf(&[]), "localhost", not_the_host("a common name (CN) does not count")),
        (
            "several names",
            &leaf(&["a.test", "b.test"]),
            "c.test",
            not_the_host("is for a.test, b.test, not for 'c.test'"),
        ),
    ] {
        rows.push(row(what, &ca, params, p256(), &[], &ca, name, wanted));
    }

    // Constraints on names.
    let within = below(&ca, "a CA of brokers.test", p256(), |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::DnsName("brokers.test".into()),
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix([10, 0, 0, 0].into(), 8)),
            ],
            excluded_subtrees: vec![GeneralSubtree::DnsName("secret.brokers.test".into())],
        });
    });
    let constrained = Err((UnsupportedCertificate, "name constraints"));
    for (what, names, name, wanted) in [
        ("a permitted name", "one.brokers.test", "one.brokers.test", Ok(())),
        ("a name that is not permitted", "localhost", "localhost", constrained),
        ("an excluded name", "x.secret.brokers.test", "x.secret.brokers.test", constrained),
        ("an address that is not permitted", "127.0.0.1", "127.0.0.1", constrained),
    ] {
        rows.push(row(what, &within, &leaf(&[names]), p256(), &[&within], &ca, name, wanted));
    }

    // What it may be used for.
    let mut for_clients = leaf(&["localhost"]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let purpose = Err((UnsupportedCertificate, "serverAuth"));
    rows.push(row("a certificate for clients", &ca, &for_clients, p256(), &[], &ca, "localhost", purpose));
    let mut stale = leaf(&["localhost"]);
    (stale.not_before, stale.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    rows.push(row("an expired certificate", &ca, &stale, p256(), &[], &ca, "localhost", expired));
    rows
}

/// A message that a user understands: no name of a type, one line, and where.
#[track_caller]
pub fn assert_plain(error: &Error, port: u16) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("127.0.0.1:{port}: ")), "{text}");
    assert!(!text.contains('\n'), "{text}");
    for of_a_debugger in
        ["Error(", "Certificate(", "UnknownIssuer", "Context", "::", "{", "Alert", "webpki", "rustls", "http"]
    {
        assert!(!text.contains(of_a_debugger), "{text}");
    }
}

#[tokio::test]
async fn every_certificate_of_the_table_is_accepted_or_refused_with_its_reason() {
    for Row { what, shown, trusted, name, wanted } in table() {
        for version in ["-tls1_2", "-tls1_3"] {
            let server = OpenSsl::start(&shown, &[version]).await;
            let tls = TlsOptions::new().ca_pem(trusted.clone()).server_name(name);
            let host = Host::new("127.0.0.1", server.port);
            let connecting = TcpConnector.connect(&host, Some(&tls));
            let result = tokio::time::timeout(DEADLINE, connecting).await.expect("a handshake does not hang");
            match (wanted, result) {
                (Ok(()), Ok(_)) => {}
                (Ok(()), Err(error)) => panic!("{what} ({version}): {error:?}"),
                (Err(_), Ok(_)) => panic!("{what} ({version}) was accepted"),
                (Err((failure, text)), Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Tls, "{what} ({version}): {error:?}");
                    assert_eq!(error.tls_failure(), Some(failure), "{what} ({version}): {error:?}");
                    assert!(error.to_string().contains(text), "{what} ({version}): {error}");
                    assert_plain(&error, server.port);
                }
            }
        }
    }
}
