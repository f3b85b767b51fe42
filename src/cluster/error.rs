//! Describes errors in words: the API server's answer or why there was none, and what the user can do about it.

use std::{error::Error as StdError, io};

use http::StatusCode;
use kube::client::AuthError;
use kube_runtime::watcher;
use tower::timeout::error::Elapsed;

use crate::api::text::shown;

/// The error and its sources as one text, without repetitions.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// Why a request to the API server failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApiProblem {
    /// No connection; the cause.
    Unreachable(String),
    /// The answer did not come in time.
    Silent,
    /// The API server, or a proxy in between, closed the connection.
    Closed,
    /// The TLS handshake failed; the cause.
    Untrusted(String),
    /// No credentials could be obtained, for example from an exec plugin; the cause.
    NoCredentials(String),
    /// The API server does not accept the credentials: 401.
    Unauthenticated,
    /// The credentials lack a permission: 403; the message of the API server.
    Forbidden(String),
    /// Any other refusal: the status code, and the message of the API server.
    Refused(u16, String),
    /// The answer cannot be read, or the request cannot be built.
    Other(String),
}

impl ApiProblem {
    /// Classifies an error of the client.
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_answer(status.code, &status.message),
            kube::Error::Auth(error) => Self::NoCredentials(chain(error)),
            kube::Error::Service(error) => Self::of_transport(error.as_ref()),
            kube::Error::HyperError(error) => Self::of_transport(error),
            kube::Error::ReadEvents(error) => Self::of_transport(error),
            error => Self::Other(chain(error)),
        }
    }

    /// Classifies an error of a watch.
    pub fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of(error),
            watcher::Error::WatchError(status) => Self::of_answer(status.code, &status.message),
            error @ watcher::Error::NoResourceVersion => Self::Other(error.to_string()),
        }
    }

    /// Classifies an answer with an error code.
    pub fn of_answer(code: u16, message: &str) -> Self {
        match code {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden(shown(message).into_owned()),
            code => Self::Refused(code, shown(message).into_owned()),
        }
    }

    /// Classifies an error that came instead of an answer.
    pub fn of_transport(error: &(dyn StdError + 'static)) -> Self {
        let mut last = error;
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Elapsed>() {
                return Self::Silent;
            }
            if error.is::<AuthError>() {
                return Self::NoCredentials(chain(error));
            }
            if let Some(rustls) = error.downcast_ref::<rustls::Error>() {
                return Self::Untrusted(rustls.to_string());
            }
            last = error;
            // `source` of an I/O error skips the error that it wraps, so look at the wrapped error first.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source());
        }
        let text = last.to_string();
        // HTTP/2 uses these texts when a connection ends without an error.
        if ["not a result of an error", "connection closed", "operation was canceled"].iter().any(|end| text.contains(end)) {
            return Self::Closed;
        }
        match last.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => Self::Silent,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => Self::Closed,
            Some(
                kind @ (io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown),
            ) => Self::Unreachable(kind.to_string()),
            _ => Self::Unreachable(text),
        }
    }

    /// Whether every other request will fail in the same way.
    pub const fn is_of_connection(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Silent
            | Self::Closed
            | Self::Untrusted(_)
            | Self::NoCredentials(_)
            | Self::Unauthenticated => true,
            Self::Forbidden(_) | Self::Refused(..) | Self::Other(_) => false,
        }
    }

    /// One sentence with the address of the API server, the answer, and what to do.
    pub fn sentence(&self, address: &str) -> String {
        let server = format!("the API server at {}", address.trim_end_matches('/'));
        match self {
            Self::Unreachable(why) => {
                format!("{server} cannot be reached: {why}. Check that it runs, and the address in the kubeconfig")
            }
            Self::Silent => format!("{server} does not answer in time. Check its load, and the network and proxies before it"),
            Self::Closed => format!("{server} closed the connection. Check that it runs, and the network and proxies before it"),
            Self::Untrusted(why) => {
                format!(
                    "no TLS connection to {server}: {why}. Check certificate-authority-data in the kubeconfig, and the address"
                )
            }
            Self::NoCredentials(why) => {
                format!("no credentials for {server}: {why}. Check the user, its token file or its exec plugin in the kubeconfig")
            }
            Self::Unauthenticated => {
                format!(
                    "{server} rejects the credentials (401 Unauthorized). The token or certificate is wrong or has expired: renew it"
                )
            }
            Self::Forbidden(message) => {
                format!("{server} denies access (403 Forbidden): {message}. Apply manifests/base, or use other credentials")
            }
            Self::Refused(code, message) => {
                let name = StatusCode::from_u16(*code).ok().and_then(|code| code.canonical_reason());
                let name = name.map(|name| format!(" {name}")).unwrap_or_default();
                let advice = if *code >= 500 { ". Check its log" } else { "" };
                format!("{server} answers {code}{name}: {message}{advice}")
            }
            Self::Other(what) => {
                format!("the answer of {server} cannot be used: {what}. Check that it is a Kubernetes API server")
            }
        }
    }

    /// A short text without the address and the advice.
    pub fn summary(&self) -> String {
        match self {
            Self::Unreachable(why) => format!("the API server cannot be reached: {why}"),
            Self::Silent => "the API server does not answer in time".into(),
            Self::Closed => "the API server closed the connection".into(),
            Self::Untrusted(why) => format!("no TLS connection: {why}"),
            Self::NoCredentials(why) => format!("no credentials: {why}"),
            Self::Unauthenticated => "the API server rejects the credentials (401 Unauthorized)".into(),
            Self::Forbidden(message) => format!("the API server denies access (403 Forbidden): {message}"),
            Self::Refused(code, message) => format!("the API server answers {code}: {message}"),
            Self::Other(what) => what.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    const ADDRESS: &str = "https://10.0.0.1:6443/";

    fn of_status(code: u16, message: &str) -> ApiProblem {
        ApiProblem::of(&kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() })))
    }

    fn of_io(kind: io::ErrorKind) -> ApiProblem {
        ApiProblem::of(&kube::Error::Service(Box::new(io::Error::from(kind))))
    }

    #[test]
    fn each_problem_is_one_sentence_with_the_address_the_answer_and_what_to_do() {
        let unknown_issuer = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let no_name = "failed to lookup address information: Name or service not known";
        for (problem, said, to_do) in [
            (of_io(io::ErrorKind::ConnectionRefused), "cannot be reached: connection refused", "Check that it runs"),
            (ApiProblem::of_transport(&io::Error::other(no_name)), no_name, "the address in the kubeconfig"),
            (of_io(io::ErrorKind::TimedOut), "does not answer in time", "Check its load"),
            (ApiProblem::of(&kube::Error::Service(Box::new(Elapsed::new()))), "does not answer in time", "Check its load"),
            (
                ApiProblem::of_transport(&io::Error::other("http2 error: connection error received: not a result of an error")),
                "closed the connection",
                "Check that it runs",
            ),
            (of_io(io::ErrorKind::ConnectionReset), "closed the connection", "Check that it runs"),
            (
                ApiProblem::of_transport(&io::Error::other(unknown_issuer)),
                "invalid peer certificate: UnknownIssuer",
                "certificate-authority-data",
            ),
            (of_status(401, "Unauthorized"), "(401 Unauthorized)", "renew it"),
            (of_status(403, "User \"x\" cannot list"), "(403 Forbidden): User \"x\" cannot list", "Apply manifests/base"),
            (of_status(503, "etcd is down"), "answers 503 Service Unavailable: etcd is down", "Check its log"),
            (of_status(400, "no"), "answers 400 Bad Request: no", ""),
            (
                ApiProblem::of(&kube::Error::LinesCodecMaxLineLengthExceeded),
                "cannot be used: Error finding newline",
                "Check that it is a Kubernetes API server",
            ),
        ] {
            let sentence = problem.sentence(ADDRESS);
            assert!(sentence.contains("the API server at https://10.0.0.1:6443"), "{sentence}");
            assert!(sentence.contains(said) && sentence.contains(to_do), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("os error") && !sentence.contains("Status {"), "{sentence}");
        }
    }

    #[test]
    fn only_what_every_request_meets_is_of_the_connection() {
        assert!(of_status(401, "").is_of_connection() && of_io(io::ErrorKind::TimedOut).is_of_connection());
        assert!(!of_status(403, "").is_of_connection() && !of_status(500, "").is_of_connection());
    }
}
