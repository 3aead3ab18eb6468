//! Certificates made on the spot, good and bad ones, and TLS servers that show them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa,
    KeyPair, KeyUsagePurpose, SigningKey as _,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    },
};

/// Both versions, for servers that do not care.
pub const ANY_VERSION: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// A certificate with its key.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Identity {
    pub fn pem(&self) -> String {
        pem(&self.certificate)
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// A broker's or client's certificate for these names, to be changed as the test wants and then issued.
pub fn for_names(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("the names are valid");
    params.distinguished_name = named("a broker");
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(common_name: &str) -> Self {
        Self::with(common_name, |_| {})
    }

    pub fn with(common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, params: &CertificateParams) -> Identity {
        self.issue_for(params, KeyPair::generate().expect("a key"))
    }

    pub fn issue_for(&self, params: &CertificateParams, key: KeyPair) -> Identity {
        let certificate: Certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { certificate: certificate.der().clone(), key }
    }

    /// A certificate of X.509 version 1: without the version number and the extensions that came with version 3.
    pub fn issue_v1(&self) -> Identity {
        let v3 = self.issue(&for_names(&["127.0.0.1"]));
        let outer = fields(content(&v3.certificate));
        let (signed, algorithm) = (outer[0], outer[1]);
        let kept = fields(content(signed)).into_iter().filter(|field| !matches!(field[0], 0xa0 | 0xa3));
        let signed = der(0x30, &kept.collect::<Vec<_>>().concat());
        let mut signature = vec![0];
        signature.extend(self.0.key().sign(&signed).expect("a signature"));
        let whole = der(0x30, &[&signed, algorithm, &der(0x03, &signature)].concat());
        Identity { certificate: whole.into(), key: v3.key }
    }
}

/// A certificate that its own key signed. With `authority`, one that says it is an authority, as many tools make them.
pub fn self_signed(authority: bool) -> Identity {
    self_signed_for(authority, |_| {})
}

pub fn self_signed_for(authority: bool, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = for_names(&["127.0.0.1"]);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Identity { certificate: certificate.der().clone(), key }
}

/// The length of a DER value's header, and of its content.
fn header(value: &[u8]) -> (usize, usize) {
    match value[1] {
        short @ 0..0x80 => (2, short.into()),
        long => {
            let octets = usize::from(long & 0x7f);
            let length =
                value[2..2 + octets].iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            (2 + octets, length)
        }
    }
}

fn content(value: &[u8]) -> &[u8] {
    &value[header(value).0..]
}

fn fields(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (start, length) = header(rest);
        let (field, after) = rest.split_at(start + length);
        found.push(field);
        rest = after;
    }
    found
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let octets = &length[length.iter().take_while(|octet| **octet == 0).count()..];
    let mut value = vec![tag];
    if content.len() >= 0x80 {
        value.push(0x80 | u8::try_from(octets.len()).expect("at most 8"));
    }
    value.extend_from_slice(octets);
    value.extend_from_slice(content);
    value
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in certificate.chunks(48) {
        for group in line.chunks(3) {
            let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
            for place in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
                text.push(if place <= group.len() { digit.into() } else { '=' });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// The configuration of a server that shows `identity` and, with `clients`, wants certificates of that authority.
pub fn server_config(
    identity: &Identity,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("known versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("a usable authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    // Unlike `with_single_cert` this also takes certificates that rustls itself would not accept.
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
    let key = ring::sign::any_supported_type(&key).expect("a usable key");
    let shown = CertifiedKey::new(vec![identity.certificate.clone()], key);
    builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
}

/// A listening server on a port of its own, stopped on drop.
pub struct Server {
    pub port: u16,
    /// What each handshake came to.
    pub handshakes: tokio::sync::mpsc::UnboundedReceiver<Result<Option<String>, String>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    /// Speaks TLS and reports of each handshake the name that the client asked for (SNI), or why it failed.
    pub async fn tls(config: ServerConfig) -> Self {
        let (listener, port) = Self::listen().await;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (report, handshakes) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => {
                        let name = stream.get_ref().1.server_name().map(ToOwned::to_owned);
                        let _ = report.send(Ok(name));
                    }
                    Err((error, stream)) => {
                        let _ = report.send(Err(error.to_string()));
                        linger(stream).await;
                    }
                }
            }
        });
        Self { port, handshakes, task }
    }

    /// Answers the first bytes of each client with `answer`, whatever they are, and ends the stream.
    pub async fn raw(answer: Vec<u8>) -> Self {
        let (listener, port) = Self::listen().await;
        let (_, handshakes) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut hello = [0; 4096];
                if stream.read(&mut hello).await.is_ok() && stream.write_all(&answer).await.is_ok() {
                    linger(stream).await;
                }
            }
        });
        Self { port, handshakes, task }
    }
}

/// Closes without a reset: that would overtake what was written last.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
