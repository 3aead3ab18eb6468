//! Plain words for what failed in TLS.

use std::io;

use tokio_rustls::rustls;

use crate::{Error, ErrorKind, error::TlsFailure};

/// The error for a TLS handshake that failed.
pub(crate) fn handshake_error(error: io::Error, host: &str) -> Error {
    tls_error(&error, host).unwrap_or_else(|| {
        let failure = TlsFailure::Other;
        Error::new(
            ErrorKind::Tls,
            format!(
                "{host}: the connection was lost during the TLS handshake: {error}; does that port speak TLS?"
            ),
        )
        .with_tls_failure(failure)
        .with_source(error)
    })
}

/// The error for what rustls reports through I/O, also after the handshake: in TLS 1.3 the broker's word about the
/// client certificate comes with the first read. `None` if it is not about TLS.
pub(crate) fn tls_error(error: &io::Error, host: &str) -> Option<Error> {
    let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let (failure, text) = explain(cause);
    Some(
        Error::new(ErrorKind::Tls, format!("{host}: TLS failed: {text} ({cause})"))
            .with_tls_failure(failure)
            .with_source(cause.clone()),
    )
}

fn explain(cause: &rustls::Error) -> (TlsFailure, &'static str) {
    use rustls::{
        AlertDescription as Alert, CertificateError as Bad, Error as Tls, PeerIncompatible as Incompatible,
    };
    match cause {
        Tls::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                (
                    TlsFailure::Expired,
                    "the broker's certificate has expired or is not valid yet; check both clocks",
                )
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
                TlsFailure::WrongName,
                "the broker's certificate is for another name; connect by a name that is in it, or give server_name",
            ),
            Bad::UnknownIssuer => (
                TlsFailure::UnknownIssuer,
                "the broker's certificate was issued by nobody who is trusted here; give its CA as ca_file",
            ),
            // The issuer's name is that of a trusted CA, its key is not: a CA that was made anew, for instance.
            Bad::BadSignature => (
                TlsFailure::UnknownIssuer,
                "the broker's certificate was issued by another CA than the trusted one of the same name; give the \
                 right one as ca_file",
            ),
            Bad::BadEncoding
            | Bad::UnhandledCriticalExtension
            | Bad::UnsupportedSignatureAlgorithmContext { .. }
            | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            | Bad::InvalidPurpose
            | Bad::InvalidPurposeContext { .. } => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate is of a form that is not accepted; have it issued anew as X.509 v3",
            ),
            Bad::Other(other) => explain_other(&other.to_string()),
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
            "the broker broke the handshake off: it wants a client certificate, or has no cipher in common with us",
        ),
        Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } => {
            (TlsFailure::NotTls, "the peer does not speak TLS on that port; is it the plain AMQP port?")
        }
        Tls::NoCertificatesPresented => {
            (TlsFailure::UnsupportedCertificate, "the broker showed no certificate")
        }
        _ => (TlsFailure::Other, "the handshake failed"),
    }
}

/// What webpki says without a variant of its own in rustls.
fn explain_other(text: &str) -> (TlsFailure, &'static str) {
    if text.contains("CaUsedAsEndEntity") {
        (
            TlsFailure::UnknownIssuer,
            "the broker shows a self-signed CA certificate as its own; give it as ca_file and pin it, or have a \
             certificate issued by it",
        )
    } else {
        (
            TlsFailure::UnsupportedCertificate,
            "the broker's certificate is of a form that is not accepted (X.509 v1, for instance); have it issued anew \
             as X.509 v3",
        )
    }
}
