//! The certificates of one control plane: the authority, the serving certificate, and the client certificates.
//!
//! Keys never leave the state directory, which only its owner can read.

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const DAY: Duration = Duration::from_hours(24);
const LIFETIME: Duration = Duration::from_hours(7 * 24);

pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Debug, Clone)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Debug for Pki {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Pki {
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut params = params("policy-baseline-e2e", &[], Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("make the key of the authority")?;
        let certificate = params.self_signed(&key).context("sign the authority")?;
        fs::write(dir.join("ca.crt"), certificate.pem()).context("write ca.crt")?;
        let service_accounts = KeyPair::generate().context("make the key of the service accounts")?;
        fs::write(dir.join("sa.key"), service_accounts.serialize_pem()).context("write sa.key")?;
        fs::write(dir.join("sa.pub"), service_accounts.public_key_pem()).context("write sa.pub")?;
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) })
    }

    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub fn service_account_key(&self) -> PathBuf {
        self.dir.join("sa.key")
    }

    pub fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("sa.pub")
    }

    pub fn server(&self, name: &str, subject_alt_names: Vec<String>) -> Result<Files> {
        self.issue(name, params(name, &[], subject_alt_names)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a client certificate. The API server reads the user from its common name, and the groups from its organisation.
    pub fn client(&self, file: &str, user: &str, groups: &[&str]) -> Result<Files> {
        self.issue(file, params(user, groups, Vec::new())?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, file: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Files> {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("make a key")?;
        let certificate = params.signed_by(&key, &self.issuer).with_context(|| format!("sign {file}"))?;
        let files = Files { certificate: self.dir.join(format!("{file}.crt")), key: self.dir.join(format!("{file}.key")) };
        fs::write(&files.certificate, certificate.pem()).with_context(|| format!("write {file}.crt"))?;
        fs::write(&files.key, key.serialize_pem()).with_context(|| format!("write {file}.key"))?;
        Ok(files)
    }
}

fn params(name: &str, groups: &[&str], subject_alt_names: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(subject_alt_names).context("subject alternative names")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Here a distinguished name can have only one value for each key, but the same key has two representations. So two groups are
    // possible.
    let keys = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    if groups.len() > keys.len() {
        bail!("a client certificate made here names at most two groups, and {name} should have {groups:?}");
    }
    for (key, group) in keys.into_iter().zip(groups) {
        params.distinguished_name.push(key, *group);
    }
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + LIFETIME).into();
    Ok(params)
}
