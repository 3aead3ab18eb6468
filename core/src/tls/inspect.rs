//! A TLS handshake that tells what it saw: for `doctor`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::{TlsOptions, handshake_error};
use crate::{Result, options::Host, wire::stream::Stream};

/// What a handshake came to, as far as it went.
#[derive(Default)]
pub(crate) struct Seen {
    /// The certificates that the broker sent, its own first.
    pub chain: Vec<Vec<u8>>,
    /// The name that was verified.
    pub name: String,
    /// Such as `TLSv1_3`.
    pub version: Option<String>,
    pub cipher_suite: Option<String>,
    pub key_exchange: Option<String>,
}

impl TlsOptions {
    /// As [`Self::connect`], on a configuration of its own: it resumes no session, so that the certificates are always seen.
    pub(crate) async fn inspect<T>(&self, host: &Host, io: T) -> (Result<Stream>, Seen)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (name, config) = match self.name_for(host).and_then(|name| Ok((name, self.client_config()?))) {
            Ok(found) => found,
            Err(error) => return (Err(error), Seen::default()),
        };
        let mut seen = Seen { name: name.to_str().into_owned(), ..Seen::default() };
        let chain = Arc::new(Mutex::new(Vec::new()));
        let mut watched = (*config.rustls).clone();
        watched.resumption = rustls::client::Resumption::disabled();
        let verifier = Watching { inner: config.verifier.clone(), chain: chain.clone() };
        watched.dangerous().set_certificate_verifier(Arc::new(verifier));
        let result = TlsConnector::from(Arc::new(watched)).connect(name, io).await;
        seen.chain = std::mem::take(&mut *chain.lock().unwrap_or_else(PoisonError::into_inner));
        let result = result.map_err(|error| handshake_error(error, &host.to_string(), &config.identity));
        let result = result.map(|stream| {
            let (_, session) = stream.get_ref();
            seen.version = session.protocol_version().map(|version| format!("{version:?}"));
            seen.cipher_suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
            seen.key_exchange =
                session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
            Stream::new(stream, host.to_string())
        });
        (result, seen)
    }

    /// Whom these options trust, in words.
    pub(crate) fn trusted(&self) -> &'static str {
        match (self.insecure, self.ca.is_some(), self.system_roots) {
            (true, ..) => "nobody is verified (insecure)",
            (_, false, _) => "the system's authorities",
            (_, true, false) => "the CA that was given",
            (_, true, true) => "the system's authorities and the CA that was given",
        }
    }

    pub(crate) fn is_insecure(&self) -> bool {
        self.insecure
    }
}

/// Notes the chain, and decides as `inner` does.
#[derive(Debug)]
struct Watching {
    inner: Arc<dyn ServerCertVerifier>,
    chain: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(end_entity).chain(intermediates).map(|one| one.to_vec()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = all;
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
