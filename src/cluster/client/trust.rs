//! Verifies the server with a certificate authority from a file that may be replaced, such as a pod's ca.crt.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tracing::{info, warn};

/// Reads the file at each handshake. Handshakes are rare, and so a new or removed authority takes effect immediately.
#[derive(Debug)]
struct AuthorityFile {
    file: PathBuf,
    last: Mutex<Last>,
}

/// The last valid content of the file.
#[derive(Debug)]
struct Last {
    text: Vec<u8>,
    verifier: Arc<WebPkiServerVerifier>,
    /// Why the file cannot be used now. Each connection reads the file again, so this is logged only when it changes.
    problem: Option<String>,
}

impl Last {
    /// Notes that the file can be used, or why not. Returns whether that is news.
    fn note(&mut self, problem: Option<String>) -> bool {
        let is_news = self.problem != problem;
        self.problem = problem;
        is_news
    }
}

/// Makes connections trust the authority in this file, as it is when a connection is opened. Fails if the file is not valid now.
pub fn follow(config: &mut ClientConfig, file: PathBuf) -> Result<(), Error> {
    let text = fs::read(&file).map_err(|e| Error::General(format!("{}: {e}", file.display())))?;
    let verifier = verifier(&text).ok_or_else(|| Error::General(format!("{} holds no certificate authority", file.display())))?;
    let last = Mutex::new(Last { text, verifier, problem: None });
    config.dangerous().set_certificate_verifier(Arc::new(AuthorityFile { file, last }));
    Ok(())
}

fn verifier(text: &[u8]) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        roots.add(certificate.ok()?).ok()?;
    }
    WebPkiServerVerifier::builder(Arc::new(roots)).build().ok()
}

impl AuthorityFile {
    /// The verifier for the current content of the file. If the file is unreadable or not valid, the last one.
    fn current(&self) -> Arc<WebPkiServerVerifier> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::read(&self.file) {
            Ok(text) if text == last.text => {
                if last.note(None) {
                    info!(file = %self.file.display(), "the file with the certificate authority can be used again");
                }
            }
            Ok(text) => {
                if let Some(verifier) = verifier(&text) {
                    info!(file = %self.file.display(), "the certificate authority of the API server has changed");
                    *last = Last { text, verifier, problem: None };
                } else if last.note(Some("no certificate authority".into())) {
                    warn!(file = %self.file.display(), "the file holds no certificate authority; the last one remains in use");
                }
            }
            Err(error) => {
                if last.note(Some(error.to_string())) {
                    warn!(file = %self.file.display(), %error, "the file with the certificate authority cannot be read; the last one remains in use");
                }
            }
        }
        Arc::clone(&last.verifier)
    }

    fn last(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner).verifier)
    }
}

impl ServerCertVerifier for AuthorityFile {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.current().verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.last().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.last().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.last().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    /// A certificate authority, and a server certificate signed by it.
    fn authority() -> (String, CertificateDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap().pem();
        let server = CertificateParams::new(vec!["kubernetes".into()]).unwrap();
        let signed = server.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, key)).unwrap();
        (own, signed.der().clone())
    }

    #[test]
    fn the_file_counts_as_it_is_now_and_as_it_last_was_when_it_makes_no_sense() {
        let (old, new) = (authority(), authority());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.crt");
        fs::write(&file, &old.0).unwrap();
        let last = Last { text: Vec::new(), verifier: verifier(old.0.as_bytes()).unwrap(), problem: None };
        let trust = AuthorityFile { file: file.clone(), last: Mutex::new(last) };
        let trusts = |certificate: &CertificateDer<'_>| {
            trust.verify_server_cert(certificate, &[], &"kubernetes".try_into().unwrap(), &[], UnixTime::now()).is_ok()
        };
        assert_eq!((trusts(&old.1), trusts(&new.1)), (true, false));
        fs::write(&file, format!("{}{}", old.0, new.0)).unwrap();
        assert_eq!((trusts(&old.1), trusts(&new.1)), (true, true));
        fs::write(&file, &new.0).unwrap();
        assert_eq!((trusts(&old.1), trusts(&new.1)), (false, true), "an authority that is gone is no longer trusted");
        for nonsense in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            fs::write(&file, nonsense).unwrap();
            assert_eq!((trusts(&old.1), trusts(&new.1)), (false, true), "{nonsense:?}");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!((trusts(&old.1), trusts(&new.1)), (false, true));
    }

    #[test]
    fn i9_a_problem_with_the_file_is_news_once_and_once_when_it_is_over() {
        let mut last = Last { text: Vec::new(), verifier: verifier(authority().0.as_bytes()).unwrap(), problem: None };
        let problems = [None, Some("gone"), Some("gone"), Some("empty"), None, None].map(|problem| problem.map(str::to_owned));
        assert_eq!(problems.map(|problem| last.note(problem)), [false, true, false, true, true, false]);
    }
}
