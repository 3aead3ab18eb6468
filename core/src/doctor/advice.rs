//! What to do about a failure.

use super::Step;
use crate::{
    Error, ErrorKind, Mechanism, TlsFailure,
    options::{Host, Options},
};

pub(super) fn on(step: Step, error: &Error, host: &Host, options: &Options) -> String {
    let port = host.port;
    match (step, error.kind()) {
        (_, ErrorKind::Tls) => on_tls(error, host),
        (Step::NameLookup, _) => format!(
            "check the spelling of the host; `getent hosts {}` asks this machine the same. Behind a VPN or in a container \
             the name may be known elsewhere only",
            host.host
        ),
        (Step::Tcp, _) if error.to_string().contains("refused") => format!(
            "nothing listens on port {port} there: start RabbitMQ, or correct the port (5672 is AMQP, 5671 AMQP over TLS, \
             15672 the management page). On that machine `ss -ltn` lists what listens; 127.0.0.1 means that machine only"
        ),
        (Step::Tcp, _) => format!(
            "nothing answers: check the address, and that no firewall or security group drops packets to port {port}"
        ),
        (Step::Tls, _) => format!(
            "the port accepts connections and does not speak: is it TLS that listens on {port}? Use amqp:// for a plain port; \
             if a proxy or load balancer is between, check that it reaches the broker"
        ),
        (Step::Amqp, ErrorKind::Protocol) => format!(
            "what listens on port {port} is no AMQP 0-9-1 broker: correct the port (5672 is AMQP, 5671 AMQP over TLS)"
        ),
        (Step::Amqp, _) if error.to_string().contains("TLS") => {
            format!("port {port} may be a TLS port: connect with amqps:// and, if its CA is your own, the CA file")
        }
        (Step::Amqp, _) => format!(
            "the connection is accepted and the broker does not greet: it may be starting, frozen or out of memory, or a proxy \
             on port {port} does not reach it; look at the broker's log, and run `rabbitmq-diagnostics status` there"
        ),
        (Step::Login, ErrorKind::Authentication) if options.mechanism == Mechanism::External => {
            "compare the client certificate's name (`openssl x509 -noout -subject -in FILE`) with the users \
             (`rabbitmqctl list_users`): ssl_cert_login_from says whether the user is its common_name or its whole \
             distinguished_name"
                .to_owned()
        }
        (Step::Login, ErrorKind::Authentication) => "check user name and password: \
             `rabbitmqctl authenticate_user USER PASSWORD` asks the broker. The user 'guest' may log in from the broker's own \
             machine only, unless loopback_users says otherwise"
            .to_owned(),
        (_, ErrorKind::LimitReached) => "close connections that are not needed, or raise the limit: \
             `rabbitmqctl set_vhost_limits`, `rabbitmqctl set_user_limits` (max-connections)"
            .to_owned(),
        (Step::VirtualHost, ErrorKind::VhostRefused) => {
            let vhost = &options.vhost;
            format!(
                "`rabbitmqctl list_vhosts` lists the virtual hosts; `rabbitmqctl add_vhost '{vhost}'` makes this one, and \
                 `rabbitmqctl set_permissions -p '{vhost}' USER '.*' '.*' '.*'` lets a user in. In a URI, the virtual host '/' \
                 is no path or %2f"
            )
        }
        (Step::Login | Step::VirtualHost, _) => {
            "look at the broker's log: it says why it ended the connection".to_owned()
        }
        (_, ErrorKind::AccessRefused) => permission(step, options),
        (Step::Alarms, _) => "free memory or disk on the broker: consume or purge queues, or raise \
             vm_memory_high_watermark or lower disk_free_limit; `rabbitmq-diagnostics alarms` lists the alarms. Consuming works \
             meanwhile"
            .to_owned(),
        (_, ErrorKind::Timeout) => "the broker does not answer in time: it may be overloaded or frozen; look at its log, and run \
             `rabbitmq-diagnostics status` there, or give more time"
            .to_owned(),
        _ => "look at the broker's log for what it says of this connection".to_owned(),
    }
}

fn permission(step: Step, options: &Options) -> String {
    if step == Step::Permissions {
        // Whoever may use some names only is told how to try one of those.
        let vhost = &options.vhost;
        return format!(
            "the user may not declare or read (configure, read) a queue of that name: give the temporary queue a name that it may \
             use (queue), or more permissions: `rabbitmqctl list_permissions -p '{vhost}'` lists them, \
             `rabbitmqctl set_permissions -p '{vhost}' USER CONFIGURE WRITE READ` sets them, each a regular expression for names"
        );
    }
    let needed = match step {
        Step::Publish => "write on the default exchange (amq.default)",
        _ => "read on the queue",
    };
    let vhost = &options.vhost;
    format!(
        "the user lacks the permission {needed}: `rabbitmqctl list_permissions -p '{vhost}'` lists them, \
         `rabbitmqctl set_permissions -p '{vhost}' USER CONFIGURE WRITE READ` sets them, each a regular expression for names"
    )
}

fn on_tls(error: &Error, host: &Host) -> String {
    let port = host.port;
    match error.tls_failure() {
        Some(TlsFailure::Expired) => "renew the certificate that is marked above, and have the broker load it \
             (`rabbitmqctl eval 'ssl:clear_pem_cache().'`, or restart it); if it is not expired, set this machine's clock"
            .to_owned(),
        Some(TlsFailure::WrongName) => format!(
            "connect by a name that the certificate above has, instead of '{}'; or give that name as server_name; or have it \
             issued anew with subjectAltName=DNS:{}",
            host.host, host.host
        ),
        Some(TlsFailure::UnknownIssuer) => "give the PEM file of the CA that issued the last certificate above (or that certificate, if it is self-signed) as ca_file. \
             If the broker sends one certificate only and an intermediate CA issued it, append that one's certificate to the \
             broker's certfile"
            .to_owned(),
        Some(TlsFailure::ClientCertificateRequired) => "give a client certificate and its key, issued by a CA in the broker's \
             cacertfile; or set ssl_options.fail_if_no_peer_cert = false there"
            .to_owned(),
        Some(TlsFailure::ClientCertificateRefused) => "compare the issuer of the client certificate \
             (`openssl x509 -noout -issuer -dates -in FILE`) with the CAs in the broker's cacertfile; the broker's log has the \
             reason"
            .to_owned(),
        Some(TlsFailure::NotTls) => format!("port {port} is a plain AMQP port, or no broker: use amqp://, or the TLS port (5671)"),
        Some(TlsFailure::ProtocolVersion) => {
            "enable TLS 1.2 or 1.3 in the broker's ssl_options.versions".to_owned()
        }
        Some(TlsFailure::NothingInCommon) => {
            "compare ssl_options.ciphers of the broker with what this client speaks; a certificate with an RSA, P-256, P-384 or \
             Ed25519 key is needed"
                .to_owned()
        }
        Some(TlsFailure::UnsupportedCertificate) => {
            "have the broker's certificate issued anew as the message says".to_owned()
        }
        _ => format!(
            "check that port {port} speaks TLS: `openssl s_client -connect {host}` shows what it says"
        ),
    }
}
