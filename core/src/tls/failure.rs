//! Plain words for what failed in TLS.

use std::{fmt, io, sync::Arc};

use tokio_rustls::rustls::{self, CertificateError, OtherError};

use super::ClientIdentity;
use crate::{Error, ErrorKind, error::TlsFailure};

/// What our verifier knows better than rustls says it.
#[derive(Debug)]
pub(super) enum Finding {
    /// The broker shows as its own a certificate that says it is an authority's, and that signed itself.
    SelfSignedAuthority,
    /// What the broker's own key signed in the handshake is not verified.
    OwnSignature,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfSignedAuthority => "a self-signed authority used as end entity",
            Self::OwnSignature => "bad signature in the handshake",
        })
    }
}

impl std::error::Error for Finding {}

impl From<Finding> for rustls::Error {
    fn from(finding: Finding) -> Self {
        CertificateError::Other(OtherError(Arc::new(finding))).into()
    }
}

/// Whether it is that the certificate has expired, or is not valid yet.
pub(super) fn is_about_dates(bad: &CertificateError) -> bool {
    use CertificateError as Bad;
    matches!(
        bad,
        Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. }
    )
}

/// Whether it is that the broker's own certificate says it is an authority's.
pub(super) fn is_authority_as_own(other: &OtherError) -> bool {
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// The error for a TLS handshake that failed.
pub(crate) fn handshake_error(error: io::Error, host: &str, identity: &ClientIdentity) -> Error {
    let early = !identity.asked();
    let known = rustls_error(&error).map(|cause| match cause {
        // Before it asks for one, the broker cannot miss a client certificate.
        rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure) if early => {
            explained(cause, host, NOTHING_IN_COMMON)
        }
        _ => explained(cause, host, explain(cause)),
    });
    known.unwrap_or_else(|| {
        Error::new(
            ErrorKind::Tls,
            format!(
                "{host}: the connection was lost during the TLS handshake: {error}; does that port speak TLS?"
            ),
        )
        .with_tls_failure(TlsFailure::Other)
        .with_source(error)
    })
}

/// The error for what rustls reports through I/O, also after the handshake: in TLS 1.3 the broker's word about the
/// client certificate comes with the first read. `None` if it is not about TLS.
pub(crate) fn tls_error(error: &io::Error, host: &str) -> Option<Error> {
    rustls_error(error).map(|cause| explained(cause, host, explain(cause)))
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn explained(cause: &rustls::Error, host: &str, (failure, text): (TlsFailure, &str)) -> Error {
    Error::new(ErrorKind::Tls, format!("{host}: TLS failed: {text} ({cause})"))
        .with_tls_failure(failure)
        .with_source(cause.clone())
}

const NOTHING_IN_COMMON: (TlsFailure, &str) = (
    TlsFailure::NothingInCommon,
    "the broker has nothing in common with us: in TLS 1.2 we speak ECDHE with AES-GCM or ChaCha20, and its key must be \
     RSA, P-256, P-384 or Ed25519",
);

fn explain(cause: &rustls::Error) -> (TlsFailure, &'static str) {
    use rustls::{
        AlertDescription as Alert, CertificateError as Bad, Error as Tls, PeerIncompatible as Incompatible,
    };
    match cause {
        Tls::InvalidCertificate(bad) => match bad {
            bad if is_about_dates(bad) => (
                TlsFailure::Expired,
                "the broker's certificate has expired or is not valid yet; check both clocks",
            ),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
                TlsFailure::WrongName,
                "the broker's certificate is for another name; connect by a name that is in it, or give server_name",
            ),
            Bad::UnknownIssuer => (
                TlsFailure::UnknownIssuer,
                "the broker's certificate was issued by nobody who is trusted here; give its CA as ca_file",
            ),
            // The issuer's name is that of a trusted CA, its key is not: a CA that was made anew, for instance. Ring says
            // the same of every signature of a short RSA key.
            Bad::BadSignature => (
                TlsFailure::UnknownIssuer,
                "the broker's certificate was issued by another CA than the trusted one of the same name, or by one whose \
                 RSA key is shorter than 2048 bits; give the right one as ca_file, or make a new CA",
            ),
            Bad::UnsupportedSignatureAlgorithmContext { .. }
            | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate is signed in a way that is not accepted: SHA-1, SHA-224, a P-521 key, or SHA-512 \
                 with a P-256 or P-384 key; have it issued anew with SHA-256, by an RSA, P-256, P-384 or Ed25519 key",
            ),
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate is not for servers; have it issued anew with the extended key usage serverAuth",
            ),
            Bad::UnhandledCriticalExtension => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate has a critical extension that is not known here; have it issued anew without it",
            ),
            Bad::Other(other) => explain_other(other),
            _ => (TlsFailure::UnsupportedCertificate, "the broker's certificate is not accepted"),
        },
        Tls::PeerIncompatible(
            Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig
            | Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled,
        )
        | Tls::AlertReceived(Alert::ProtocolVersion) => (
            TlsFailure::ProtocolVersion,
            "the broker speaks no TLS version that is accepted here (1.2 and 1.3)",
        ),
        Tls::AlertReceived(Alert::CertificateRequired) => {
            (TlsFailure::ClientCertificateRequired, "the broker wants a client certificate; give one")
        }
        Tls::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) => (
            TlsFailure::ClientCertificateRefused,
            "the broker does not accept the client certificate; is it issued by a CA that the broker trusts?",
        ),
        // RabbitMQ answers so in TLS 1.2 when no client certificate was shown.
        Tls::AlertReceived(Alert::HandshakeFailure) => (
            TlsFailure::ClientCertificateRequired,
            "the broker broke the handshake off after it had asked for a client certificate; give one that it trusts",
        ),
        Tls::PeerIncompatible(_) | Tls::AlertReceived(Alert::InsufficientSecurity) => NOTHING_IN_COMMON,
        Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } => {
            (TlsFailure::NotTls, "the peer does not speak TLS on that port; is it the plain AMQP port?")
        }
        Tls::NoCertificatesPresented => {
            (TlsFailure::UnsupportedCertificate, "the broker showed no certificate")
        }
        _ => (TlsFailure::Other, "the handshake failed"),
    }
}

/// What rustls has no variant for: our own findings, and webpki's.
fn explain_other(other: &OtherError) -> (TlsFailure, &'static str) {
    match other.0.downcast_ref::<Finding>() {
        Some(Finding::SelfSignedAuthority) => (
            TlsFailure::UnknownIssuer,
            "the broker shows a self-signed CA certificate as its own; give it as ca_file and pin it, or have a \
             certificate issued by it",
        ),
        Some(Finding::OwnSignature) => (
            TlsFailure::UnsupportedCertificate,
            "what the broker's key signed cannot be verified: it is an RSA key shorter than 2048 bits, or not the key of \
             the certificate; make a new key and have a certificate issued for it",
        ),
        None if is_authority_as_own(other) => (
            TlsFailure::UnsupportedCertificate,
            "the broker's own certificate is one of an authority (CA:TRUE); have it issued anew without that",
        ),
        None => (
            TlsFailure::UnsupportedCertificate,
            "the broker's certificate is of a form that is not accepted (X.509 v1, for instance); have it issued anew \
             as X.509 v3",
        ),
    }
}
