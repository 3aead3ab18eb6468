//! Files as they come: what editors, Windows and other tools make of PEM, and keys of every form.

use murano_messaging::{ErrorKind, TlsOptions};
use rcgen::KeyPair;

use super::{
    ANY_VERSION, Authority, Directory, Server, assert_accepted, connect, for_names, serve, server_config,
};

#[tokio::test]
async fn a_ca_file_is_read_as_editors_and_other_systems_leave_it() {
    let authority = Authority::new("our CA");
    let other = Authority::new("another CA");
    let server = serve(&authority.issue(&for_names(&["127.0.0.1"]))).await;
    let pem = authority.pem();
    let directory = Directory::new("ca-files");
    for (what, text) in [
        ("as it is", pem.clone()),
        ("with a byte order mark", format!("\u{feff}{pem}")),
        ("with CRLF", pem.replace('\n', "\r\n")),
        ("with a byte order mark and CRLF", format!("\u{feff}{}", pem.replace('\n', "\r\n"))),
        ("with comments around", format!("# our CA\nsubject=CN = our CA\n\n{pem}\ntrailing words\n")),
        ("several, ours last", format!("{}{pem}", other.pem())),
        ("several, ours first", format!("\u{feff}{pem}\r\n\r\n{}", other.pem())),
        ("without its last line end", pem.trim_end().to_owned()),
    ] {
        assert_accepted(connect(&server, &TlsOptions::new().ca_pem(text.clone())).await);
        let file = directory.write("ca.pem", &text);
        let result = connect(&server, &TlsOptions::new().ca_file(file)).await;
        assert!(result.is_ok(), "{what}: {:?}", result.err());
    }
    // Latin-1 in what is no certificate, as some bundles have it.
    let latin = [b"# Autorit\xe9 de test\n", pem.as_bytes()].concat();
    assert_accepted(connect(&server, &TlsOptions::new().ca_pem(latin)).await);
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_says_what_it_is() {
    let authority = Authority::new("our CA");
    let identity = authority.issue(&for_names(&["127.0.0.1"]));
    let server = serve(&identity).await;
    let utf16: Vec<u8> =
        "\u{feff}-----BEGIN CERTIFICATE-----".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, told) in [
        (identity.certificate.to_vec(), "openssl x509 -inform DER"),
        (utf16, "save it as ASCII or UTF-8"),
        (Vec::new(), "it has no section at all"),
        (b"nothing".to_vec(), "it has no section at all"),
        (identity.key_pem().into_bytes(), "it has PRIVATE KEY"),
        (authority.pem().replace("CERTIFICATE-", "TRUSTED CERTIFICATE-").into_bytes(), "TRUSTED CERTIFICATE"),
        (authority.pem().replace("MII", "M*I").into_bytes(), "is damaged"),
    ] {
        let error =
            connect(&server, &TlsOptions::new().ca_pem(bytes)).await.err().expect("it is not accepted");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.to_string().starts_with("the CA file"), "{error}");
    }
}

#[tokio::test]
async fn a_client_key_that_cannot_be_used_says_what_it_is() {
    let authority = Authority::new("our CA");
    let broker = authority.issue(&for_names(&["127.0.0.1"]));
    let server = Server::tls(server_config(&broker, Some(&authority), ANY_VERSION)).await;
    let ours = authority.issue(&for_names(&["client.test"]));
    let stranger = authority.issue(&for_names(&["client.test"]));
    let der = ours.key.serialize_der();
    for (key, told) in [
        (stranger.key_pem().into_bytes(), "must be that of the key"),
        (ours.pem().into_bytes(), "it has CERTIFICATE"),
        (der, "openssl pkey -inform DER"),
        (include_bytes!("keys/encrypted-p256.pem").to_vec(), "key_password"),
        (ours.key_pem().replace("PRIVATE KEY", "PUBLIC KEY").into_bytes(), "it has PUBLIC KEY"),
    ] {
        let tls = TlsOptions::new().ca_pem(authority.pem()).identity_pem(ours.pem(), key);
        let error = connect(&server, &tls).await.err().expect("it is not accepted");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn an_encrypted_key_is_used_with_its_password() {
    let authority = Authority::new("our CA");
    let broker = authority.issue(&for_names(&["127.0.0.1"]));
    let mut server = Server::tls(server_config(&broker, Some(&authority), ANY_VERSION)).await;
    let key = KeyPair::from_pem(include_str!("keys/plain-p256.pem")).expect("a key");
    let client = authority.issue_for(&for_names(&["client.test"]), key);
    let with_parameters = format!(
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
        include_str!("keys/plain-p256.pem")
    );
    // What `openssl pkcs12` writes around a key, in the encoding of whoever made the file.
    let bag = |key: &str| [b"Bag Attributes\n    friendlyName: cl\xe9\n", key.as_bytes()].concat();
    for (key, password) in [
        (bag(include_str!("keys/encrypted-p256.pem")), Some("open-sesame")),
        (bag(include_str!("keys/plain-p256.pem")), None),
    ] {
        let tls = TlsOptions::new().ca_pem(authority.pem()).identity_pem(client.pem(), key);
        let tls = password.into_iter().fold(tls, TlsOptions::key_password);
        assert_accepted(connect(&server, &tls).await);
        server.handshakes.recv().await.expect("it runs").expect("the certificate is accepted");
    }
    for (key, password) in [
        (include_str!("keys/encrypted-p256.pem").to_owned(), Some("open-sesame")),
        (
            format!("\u{feff}{}", include_str!("keys/encrypted-p256.pem").replace('\n', "\r\n")),
            Some("open-sesame"),
        ),
        (include_str!("keys/encrypted-p256-scrypt.pem").to_owned(), Some("open-sesame")),
        // What `openssl ecparam -genkey` writes.
        (with_parameters, None),
    ] {
        let mut tls = TlsOptions::new().ca_pem(authority.pem()).identity_pem(client.pem(), key);
        if let Some(password) = password {
            tls = tls.key_password(password);
        }
        assert_accepted(connect(&server, &tls).await);
        server.handshakes.recv().await.expect("it runs").expect("the certificate is accepted");
    }
}

#[tokio::test]
async fn system_roots_are_trusted_beside_an_own_ca() {
    // Which certificates are the system's is not for a test to say: both ways, the own CA is trusted.
    let authority = Authority::new("our CA");
    let server = serve(&authority.issue(&for_names(&["127.0.0.1"]))).await;
    assert_accepted(connect(&server, &TlsOptions::new().ca_pem(authority.pem()).system_roots(false)).await);
    let both = connect(&server, &TlsOptions::new().ca_pem(authority.pem()).system_roots(true)).await;
    match both {
        Ok(_) => {}
        // A container without any.
        Err(error) => assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}"),
    }
}
