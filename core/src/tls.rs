//! TLS through rustls: which authorities to trust, which certificate to present, and plain words for what failed.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};
use zeroize::Zeroizing;

use crate::{Error, Result, options::Host};

mod failure;
#[cfg(feature = "doctor")]
pub(crate) mod inspect;
mod keys;
mod pem;
#[cfg(feature = "broker")]
mod server;

use failure::Finding;
pub(crate) use failure::{handshake_error, io_reason, tls_error};
use keys::private_key;
use pem::{Pem, certificates};
#[cfg(feature = "broker")]
pub use server::ServerTls;

/// How to speak TLS: 1.2 or 1.3, with the broker's certificate verified unless asked otherwise.
///
/// Revocation is not checked: neither lists (CRL) nor OCSP. A certificate is accepted until it expires.
///
/// Files are read at each connect, so that a renewed certificate is used from the next reconnect on. The system's
/// trusted authorities are loaded once, at the first connect: they are a few hundred certificates.
#[derive(Clone)]
// Each is a switch of its own, and the wire wants them separate.
#[allow(clippy::struct_excessive_bools)]
pub struct TlsOptions {
    ca: Option<Pem>,
    system_roots: bool,
    identity: Option<(Pem, Pem)>,
    key_password: Option<Zeroizing<String>>,
    insecure: bool,
    server_name: Option<String>,
    sni: bool,
    verify_hostname: bool,
    pinned: bool,
    /// The configuration, where no file could change it.
    config: Arc<OnceLock<Config>>,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("own_ca", &self.ca.is_some())
            .field("client_certificate", &self.identity.is_some())
            .field("insecure", &self.insecure)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsOptions {
    /// The system's trusted authorities, the broker's name checked, no client certificate.
    pub fn new() -> Self {
        Self {
            ca: None,
            system_roots: false,
            identity: None,
            key_password: None,
            insecure: false,
            server_name: None,
            sni: true,
            verify_hostname: true,
            pinned: false,
            config: Arc::default(),
        }
    }

    fn changed(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.config = Arc::default();
        self
    }

    /// Trusts these authorities (PEM) instead of the system's.
    pub fn ca_pem(self, pem: impl Into<Vec<u8>>) -> Self {
        self.changed(|tls| tls.ca = Some(Pem::Bytes(Zeroizing::new(pem.into()))))
    }

    /// Trusts the authorities in this PEM file instead of the system's.
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        self.changed(|tls| tls.ca = Some(Pem::File(path.into())))
    }

    /// Trusts the system's authorities beside those of [`Self::ca_pem`] or [`Self::ca_file`]. Default: false; without such a CA
    /// they are trusted anyway.
    pub fn system_roots(self, trust: bool) -> Self {
        self.changed(|tls| tls.system_roots = trust)
    }

    /// Shows this client certificate (PEM, chain first to last) with its key (PEM: PKCS#8, PKCS#1 or SEC1; encrypted PKCS#8
    /// with [`Self::key_password`]).
    pub fn identity_pem(self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let pem = |bytes: Vec<u8>| Pem::Bytes(Zeroizing::new(bytes));
        self.changed(|tls| tls.identity = Some((pem(chain.into()), pem(key.into()))))
    }

    /// As [`Self::identity_pem`], from files.
    pub fn identity_files(self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.changed(|tls| tls.identity = Some((Pem::File(chain.into()), Pem::File(key.into()))))
    }

    /// The password of an encrypted key: PKCS#8 with PBES2 (PBKDF2 or scrypt, and AES), which OpenSSL makes by default. Needs the
    /// feature `encrypted-keys`.
    pub fn key_password(self, password: impl Into<String>) -> Self {
        self.changed(|tls| tls.key_password = Some(Zeroizing::new(password.into())))
    }

    /// Accepts any certificate: anyone between client and broker can read and change everything.
    pub fn insecure(self, insecure: bool) -> Self {
        self.changed(|tls| tls.insecure = insecure)
    }

    /// Expects this name in the broker's certificate, instead of the host's, and asks for it (SNI).
    pub fn server_name(self, name: impl Into<String>) -> Self {
        self.changed(|tls| tls.server_name = Some(name.into()))
    }

    /// Does not tell the broker which name is wanted (SNI).
    pub fn disable_sni(self) -> Self {
        self.changed(|tls| tls.sni = false)
    }

    /// Whether the name in the broker's certificate must be that of the host. Default: true.
    pub fn verify_hostname(self, verify: bool) -> Self {
        self.changed(|tls| tls.verify_hostname = verify)
    }

    /// Also accepts a broker whose very certificate is among those of [`Self::ca_pem`] or [`Self::ca_file`], whatever its
    /// name and its issuer: what knowing a self-signed certificate means. It must not have expired. Default: false.
    pub fn pinned(self, pinned: bool) -> Self {
        self.changed(|tls| tls.pinned = pinned)
    }

    /// The name that is asked for and, unless switched off, verified.
    pub(crate) fn name_for(&self, host: &Host) -> Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(&host.host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| Error::invalid(format!("'{name}' cannot be the name in a certificate")))
    }

    pub(crate) fn client_config(&self) -> Result<Config> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let config = self.build()?;
        let is_file = |pem: &Pem| matches!(pem, Pem::File(_));
        let from_files = self.ca.as_ref().is_some_and(is_file)
            || self.identity.as_ref().is_some_and(|(chain, key)| is_file(chain) || is_file(key));
        if !from_files {
            return Ok(self.config.get_or_init(|| config).clone());
        }
        Ok(config)
    }

    fn build(&self) -> Result<Config> {
        let provider = Arc::new(ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::invalid(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(&chain.read("client certificate")?, "client certificate")?;
                let key = key.read("client key")?;
                let password = self.key_password.as_ref().map(|password| password.as_str());
                let key = private_key(&key, password, "client key")?;
                let shown = certified(chain, key).map_err(|error| unfit("client", error))?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        config.enable_sni = self.sni;
        let identity = Arc::new(ClientIdentity {
            resolver: config.client_auth_cert_resolver.clone(),
            asked: AtomicBool::new(false),
        });
        config.client_auth_cert_resolver = identity.clone();
        Ok(Config { rustls: Arc::new(config), identity, verifier })
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        let check = if self.insecure {
            None
        } else {
            let (roots, pinned) = self.roots()?;
            let check = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| {
                    Error::invalid(format!("the trusted certificates cannot be used: {error}"))
                })?;
            Some((check, pinned))
        };
        Ok(Arc::new(Verifier { check, verify_hostname: self.verify_hostname, provider: provider.clone() }))
    }

    /// The trusted authorities, and the certificates that are accepted as they are.
    fn roots(&self) -> Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            add_system_roots(&mut roots)?;
            return Ok((roots, Vec::new()));
        };
        let certificates = certificates(&ca.read("CA file")?, "CA file")?;
        let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        let pinned = if self.pinned { certificates } else { Vec::new() };
        if usable == 0 && pinned.is_empty() {
            return Err(Error::invalid("the CA file has no certificate that can be used as an authority"));
        }
        if self.system_roots {
            add_system_roots(&mut roots)?;
        }
        Ok((roots, pinned))
    }
}

/// Adds the authorities that the system trusts. Which those are, the environment may say: `SSL_CERT_FILE`, `SSL_CERT_DIR`.
fn add_system_roots(roots: &mut RootCertStore) -> Result<()> {
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(());
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Err(Error::invalid(format!(
        "this system has no trusted certificates{why}: install the package ca-certificates, set SSL_CERT_FILE to a PEM file of \
         authorities, or give the broker's CA as ca_file"
    )))
}

/// A certificate chain with its key, whose text is wiped from memory.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    let key = Zeroizing::new(key);
    let certified = CertifiedKey::new(chain, ring::sign::any_supported_type(&key)?);
    match certified.keys_match() {
        // As rustls has it: a key that does not say which its public half is may fit.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error),
    }
}

/// The error for a certificate and a key that rustls does not take together.
fn unfit(whose: &str, error: rustls::Error) -> Error {
    let text = match &error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the {whose} certificate and its key do not fit: the first certificate of the file must be that of the key, and \
             its issuers follow"
        ),
        rustls::Error::InvalidCertificate(_) => {
            format!("the {whose} certificate cannot be used: it is not readable as X.509 v3")
        }
        _ => format!(
            "the {whose} key cannot be used: it must be RSA of 2048 bits or more, P-256, P-384 or Ed25519, in PKCS#8, PKCS#1 or \
             SEC1"
        ),
    };
    Error::invalid(text).with_source(error)
}

/// What a connection needs of its options.
#[derive(Clone)]
pub(crate) struct Config {
    pub rustls: Arc<ClientConfig>,
    pub identity: Arc<ClientIdentity>,
    /// Decides what `rustls` accepts.
    #[cfg_attr(not(feature = "doctor"), allow(dead_code))]
    verifier: Arc<dyn ServerCertVerifier>,
}

/// The client certificate, if there is one, and whether a broker asked for it: what the alert `handshake_failure` means
/// depends on that. Shared by the connections of a configuration, because rustls resumes sessions only with the same one.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    resolver: Arc<dyn ResolvesClientCert>,
    asked: AtomicBool,
}

impl ClientIdentity {
    fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.resolver.resolve(issuers, schemes)
    }

    fn has_certs(&self) -> bool {
        self.resolver.has_certs()
    }
}

/// The usual verification, less what the options switch off.
#[derive(Debug)]
struct Verifier {
    /// `None` accepts everything.
    check: Option<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)>,
    verify_hostname: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some((check, pinned)) = &self.check else {
            return Ok(ServerCertVerified::assertion());
        };
        if pinned.iter().any(|certificate| certificate.as_ref() == end_entity.as_ref()) {
            // The dates of the certificate itself are what webpki looks at first, and those of trusted ones it does not.
            return match check.verify_server_cert(end_entity, &[], server_name, ocsp_response, now) {
                Err(rustls::Error::InvalidCertificate(bad)) if failure::is_about_dates(&bad) => {
                    Err(bad.into())
                }
                _ => Ok(ServerCertVerified::assertion()),
            };
        }
        match check.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.verify_hostname => Ok(ServerCertVerified::assertion()),
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if failure::is_authority_as_own(&other) && is_self_signed(end_entity) =>
            {
                Err(Finding::SelfSignedAuthority.into())
            }
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
                if is_self_signed(end_entity) =>
            {
                Err(Finding::SelfSigned.into())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
            .map_err(about_own_key)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
            .map_err(about_own_key)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Tells a signature of the broker's own key from one of its issuer's.
fn about_own_key(error: rustls::Error) -> rustls::Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => Finding::OwnSignature.into(),
        other => other,
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}
