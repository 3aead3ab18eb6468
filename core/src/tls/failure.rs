//! Plain words for what failed in TLS.

use std::{borrow::Cow, fmt, io, sync::Arc};

use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, OtherError,
    pki_types::{ServerName, UnixTime},
};

use super::ClientIdentity;
use crate::{Error, ErrorKind, error::TlsFailure};

/// What our verifier knows better than rustls says it.
#[derive(Debug)]
pub(super) enum Finding {
    /// The broker shows as its own a certificate that says it is an authority's, and that signed itself.
    SelfSignedAuthority,
    /// The broker shows a certificate that signed itself and is not trusted.
    SelfSigned,
    /// What the broker's own key signed in the handshake is not verified.
    OwnSignature,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfSignedAuthority => "a self-signed authority used as end entity",
            Self::SelfSigned => "a self-signed certificate that is not trusted",
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

/// The check that failed, and what to say of it: the reason, and what to do.
type Explained = (TlsFailure, Cow<'static, str>);

/// The error for a TLS handshake that failed.
pub(crate) fn handshake_error(error: io::Error, host: &str, identity: &ClientIdentity) -> Error {
    let early = !identity.asked();
    let known = rustls_error(&error).map(|cause| match cause {
        // Before it asks for one, the broker cannot miss a client certificate.
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) if early => {
            explained(cause, host, nothing_in_common())
        }
        _ => explained(cause, host, explain(cause)),
    });
    known.unwrap_or_else(|| {
        let what = if error.kind() == io::ErrorKind::UnexpectedEof {
            "the peer closed the connection during the TLS handshake".to_owned()
        } else {
            format!("the connection was lost during the TLS handshake: {error}")
        };
        Error::new(ErrorKind::Tls, format!("{host}: {what}; does that port speak TLS?"))
            .with_tls_failure(TlsFailure::Other)
            .with_source(error)
    })
}

/// The error for what rustls reports through I/O, also after the handshake: in TLS 1.3 the broker's word about the
/// client certificate comes with the first read. `None` if it is not about TLS.
pub(crate) fn tls_error(error: &io::Error, host: &str) -> Option<Error> {
    rustls_error(error).map(|cause| explained(cause, host, explain(cause)))
}

/// Why reading or writing failed, in words.
pub(crate) fn io_reason(error: &io::Error) -> String {
    match rustls_error(error) {
        Some(cause) => format!("TLS failed: {}", explain(cause).1),
        // What rustls says of it is for its users.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the stream was cut: the peer did not end it in order (no close_notify of TLS)".to_owned()
        }
        None => error.to_string(),
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The words of rustls are for its users, who have its documentation: they are the source, and not in the message.
fn explained(cause: &rustls::Error, host: &str, (failure, text): Explained) -> Error {
    Error::new(ErrorKind::Tls, format!("{host}: TLS failed: {text}"))
        .with_tls_failure(failure)
        .with_source(cause.clone())
}

fn nothing_in_common() -> Explained {
    (
        TlsFailure::NothingInCommon,
        "the broker has nothing in common with us: in TLS 1.2 we speak ECDHE with AES-GCM or ChaCha20, and its key must be \
         RSA, P-256, P-384 or Ed25519 (with which RabbitMQ needs TLS 1.3)"
            .into(),
    )
}

fn explain(cause: &rustls::Error) -> Explained {
    use rustls::{Error as Tls, PeerIncompatible as Incompatible};
    match cause {
        Tls::InvalidCertificate(bad) => explain_certificate(bad),
        Tls::PeerIncompatible(
            Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig
            | Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled,
        ) => old_version(),
        Tls::PeerIncompatible(_) => nothing_in_common(),
        Tls::AlertReceived(alert) => explain_alert(*alert),
        Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } => (
            TlsFailure::NotTls,
            "the peer does not speak TLS on that port; is it the plain AMQP port?".into(),
        ),
        Tls::NoCertificatesPresented => {
            (TlsFailure::UnsupportedCertificate, "the broker showed no certificate".into())
        }
        Tls::DecryptError => (
            TlsFailure::Other,
            "what the peer sent cannot be decrypted: something on the way has changed it".into(),
        ),
        _ => (TlsFailure::Other, format!("the handshake failed: {cause}").into()),
    }
}

fn old_version() -> Explained {
    let text = "the broker speaks no TLS version that is accepted here (1.2 and 1.3); enable them in its ssl_options";
    (TlsFailure::ProtocolVersion, text.into())
}

fn explain_certificate(bad: &CertificateError) -> Explained {
    use CertificateError as Bad;
    match bad {
        bad if is_about_dates(bad) => (TlsFailure::Expired, about_dates(bad).into()),
        Bad::NotValidForNameContext { expected, presented } => {
            (TlsFailure::WrongName, about_names(expected, presented).into())
        }
        Bad::NotValidForName => (
            TlsFailure::WrongName,
            "the broker's certificate is for another name; connect by a name that is in it, or give server_name".into(),
        ),
        Bad::UnknownIssuer => (
            TlsFailure::UnknownIssuer,
            "the broker's certificate was issued by nobody who is trusted here; give its CA as ca_file (if an intermediate \
             CA issued it, the broker must send that one's certificate too, or ca_file have it)"
                .into(),
        ),
        // The issuer's name is that of a trusted CA, its key is not: a CA that was made anew, for instance. Ring says
        // the same of every signature of a short RSA key.
        Bad::BadSignature => (
            TlsFailure::UnknownIssuer,
            "the broker's certificate was issued by another CA than the trusted one of the same name, or by one whose \
             RSA key is shorter than 2048 bits; give the right one as ca_file, or make a new CA"
                .into(),
        ),
        Bad::UnsupportedSignatureAlgorithmContext { .. }
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            TlsFailure::UnsupportedCertificate,
            "the broker's certificate is signed in a way that is not accepted: SHA-1, SHA-224, a P-521 key, or SHA-512 \
             with a P-256 or P-384 key; have it issued anew with SHA-256, by an RSA, P-256, P-384 or Ed25519 key"
                .into(),
        ),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => (
            TlsFailure::UnsupportedCertificate,
            "the broker's certificate is not for servers; have it issued anew with the extended key usage serverAuth".into(),
        ),
        Bad::UnhandledCriticalExtension => (
            TlsFailure::UnsupportedCertificate,
            "the broker's certificate has a critical extension that is not known here; have it issued anew without it".into(),
        ),
        Bad::BadEncoding => (
            TlsFailure::UnsupportedCertificate,
            "the broker's certificate is not readable; have it issued anew".into(),
        ),
        Bad::Other(other) => explain_other(other),
        _ => (
            TlsFailure::UnsupportedCertificate,
            format!("the broker's certificate is not accepted: {bad}").into(),
        ),
    }
}

/// The number of whole days between two times, in words.
fn days(from: UnixTime, to: UnixTime) -> String {
    match to.as_secs().saturating_sub(from.as_secs()) / 86400 {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}

/// Webpki does not say which certificate of the chain it is.
fn about_dates(bad: &CertificateError) -> String {
    match bad {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the broker's certificate, or one of its chain, has expired ({} ago); renew it, or set this machine's clock",
            days(*not_after, *time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the broker's certificate, or one of its chain, is not valid yet (for another {}); check both clocks",
            days(*time, *not_before)
        ),
        _ => "the broker's certificate has expired or is not valid yet; check both clocks".into(),
    }
}

/// A certificate of a large cluster has many names.
const SHOWN: usize = 10;

fn about_names(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    // Each is in the form of a debugger: DnsName("rabbit-1"), IpAddress(10.0.0.1).
    let inner = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        // The peer chose them, and somebody's terminal shows them.
        inner.trim_matches('"').chars().filter(|letter| !letter.is_control()).take(100).collect::<String>()
    };
    let mut names: Vec<String> = presented.iter().take(SHOWN).map(inner).collect();
    if presented.len() > SHOWN {
        names.push(format!("{} more", presented.len() - SHOWN));
    }
    if names.is_empty() {
        return format!(
            "the broker's certificate is not for '{expected}': it has no subjectAltName, and a common name (CN) does not \
             count; have it issued anew with a subjectAltName, or pin it"
        );
    }
    format!(
        "the broker's certificate is for {}, not for '{expected}'; connect by a name that is in it, give server_name, or \
         have it issued anew with that name as subjectAltName",
        names.join(", ")
    )
}

fn explain_alert(alert: AlertDescription) -> Explained {
    use AlertDescription as Alert;
    let refused = match alert {
        Alert::ProtocolVersion => return old_version(),
        Alert::InsufficientSecurity => return nothing_in_common(),
        Alert::CertificateRequired => {
            return (
                TlsFailure::ClientCertificateRequired,
                "the broker wants a client certificate; give one".into(),
            );
        }
        // RabbitMQ answers so in TLS 1.2 when no client certificate was shown.
        Alert::HandshakeFailure => {
            return (
                TlsFailure::ClientCertificateRequired,
                "the broker broke the handshake off after it had asked for a client certificate; give one that it trusts"
                    .into(),
            );
        }
        Alert::CertificateExpired => "has it expired, or one of its chain? renew it",
        Alert::CertificateRevoked => "it was revoked; have another issued",
        Alert::UnknownCA => {
            "it was issued by no CA that the broker trusts; have one issued by a CA of the broker's cacertfile"
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => "is it issued by a CA that the broker trusts, for clients, and still valid?",
        other => {
            let name = format!("{other:?}");
            let mut words = String::new();
            let mut lower_before = false;
            for letter in name.chars() {
                if letter.is_ascii_uppercase() && lower_before {
                    words.push('_');
                }
                lower_before = letter.is_ascii_lowercase();
                words.push(letter.to_ascii_lowercase());
            }
            let text = format!("the broker broke the handshake off with the alert {words}; its log says why");
            return (TlsFailure::Other, text.into());
        }
    };
    let text = format!("the broker does not accept the client certificate; {refused}");
    (TlsFailure::ClientCertificateRefused, text.into())
}

/// What rustls has no variant for: our own findings, and webpki's.
fn explain_other(other: &OtherError) -> Explained {
    let (failure, text) = match other.0.downcast_ref::<Finding>() {
        Some(Finding::SelfSignedAuthority) => (
            TlsFailure::UnknownIssuer,
            "the broker shows a self-signed CA certificate as its own; give it as ca_file and pin it, or have a \
             certificate issued by it",
        ),
        Some(Finding::SelfSigned) => (
            TlsFailure::UnknownIssuer,
            "the broker's certificate is self-signed and not trusted here; give it as ca_file, or have one issued by a CA",
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
        None => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::NameConstraintViolation) => (
                TlsFailure::UnsupportedCertificate,
                "a CA of the broker's certificate may not issue certificates for its names (name constraints); have one \
                 issued for a permitted name, or by another CA",
            ),
            Some(webpki::Error::PathLenConstraintViolated | webpki::Error::EndEntityUsedAsCa) => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate was issued by a certificate that may not issue any (CA:FALSE, or pathlen); have it \
                 issued anew by a CA",
            ),
            Some(
                webpki::Error::MaximumPathDepthExceeded
                | webpki::Error::MaximumPathBuildCallsExceeded
                | webpki::Error::MaximumSignatureChecksExceeded
                | webpki::Error::MaximumNameConstraintComparisonsExceeded,
            ) => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate has too long a chain; have the broker send only what leads to a trusted CA",
            ),
            _ => (
                TlsFailure::UnsupportedCertificate,
                "the broker's certificate is of a form that is not accepted (X.509 v1, for instance); have it issued anew \
                 as X.509 v3",
            ),
        },
    };
    (failure, text.into())
}
