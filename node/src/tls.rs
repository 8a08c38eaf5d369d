//! The node's own certificate authority, and the credentials made from it.
//!
//! Keeps `ca.crt`, `ca.key`, `admin.crt`, `admin.key` and `token` in a directory, the secret ones readable by their owner only.
//! The server's certificate is made anew at each start, since the names under which it is reached may change.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::objects::create;
use crate::{Error, Result};

/// Years for which certificates hold.
const YEARS: i32 = 10;

/// What a client needs to be let in, and what the server shows.
pub struct Credentials {
    /// The certificate of the authority, PEM.
    pub authority: String,
    /// An administrator's certificate and key, PEM.
    pub admin_certificate: String,
    pub admin_key: String,
    /// A bearer token that is as good as the administrator's certificate.
    pub token: String,
    pub(crate) server: Arc<ServerConfig>,
}

impl Credentials {
    /// Reads the authority from `directory`, or makes one; then a certificate for the server under `names` (host names or IP
    /// addresses).
    pub fn open(directory: &Path, names: &[String], now: Timestamp) -> Result<Self> {
        fs::create_dir_all(directory)
            .map_err(|e| Error::caused(format!("cannot make the directory {}", directory.display()), e))?;
        let (key, made) = kept_key(&directory.join("ca.key"))?;
        let params = authority_params(now)?;
        let path = directory.join("ca.crt");
        let authority = match read(&path)? {
            Some(pem) if !made => pem,
            _ => {
                let pem = params.self_signed(&key).map_err(certificate)?.pem();
                write(&path, &pem)?;
                pem
            }
        };
        let issuer = Issuer::from_params(&params, &key);
        let (admin_key, new_key) = kept_key(&directory.join("admin.key"))?;
        let admin_path = directory.join("admin.crt");
        let admin_certificate = match read(&admin_path)? {
            Some(pem) if !made && !new_key => pem,
            _ => {
                let pem = admin_params(now)?.signed_by(&admin_key, &issuer).map_err(certificate)?.pem();
                write(&admin_path, &pem)?;
                pem
            }
        };
        let token_path = directory.join("token");
        let token = match read(&token_path)?.map(|text| text.trim().to_owned()).filter(|text| text.len() >= 32) {
            Some(token) => token,
            None => {
                let token = create::suffix(48)?;
                write(&token_path, &token)?;
                token
            }
        };
        let server_key = KeyPair::generate().map_err(certificate)?;
        let server = server_params(names, now)?.signed_by(&server_key, &issuer).map_err(certificate)?;
        let server = server_config(&authority, server.der().clone(), &server_key)?;
        Ok(Self { authority, admin_certificate, admin_key: admin_key.serialize_pem(), token, server })
    }

    /// The text of a kubeconfig with which `kubectl` reaches the API at `url` as administrator.
    pub fn kubeconfig(&self, url: &str) -> String {
        use base64::Engine as _;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: shipway\nclusters:\n- name: shipway\n  cluster:\n    \
             server: {url}\n    certificate-authority-data: {}\ncontexts:\n- name: shipway\n  context:\n    \
             cluster: shipway\n    user: admin\nusers:\n- name: admin\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\n",
            base64(&self.authority),
            base64(&self.admin_certificate),
            base64(&self.admin_key),
        )
    }
}

fn server_config(authority: &str, certificate: CertificateDer<'static>, key: &KeyPair) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(authority.as_bytes())
        .map_err(|e| Error::caused("ca.crt holds no certificate; delete it and its key to get new ones", e))?;
    roots.add(der.clone()).map_err(|e| Error::caused("ca.crt is no certificate authority", e))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| Error::caused("cannot set up the check of client certificates", e))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::caused("cannot set up TLS", e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate, der], key)
        .map_err(|e| Error::caused("cannot use the server's certificate", e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn authority_params(now: Timestamp) -> Result<CertificateParams> {
    let mut params = params(&[], "shipway-node", now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn admin_params(now: Timestamp) -> Result<CertificateParams> {
    let mut params = params(&[], "kubernetes-admin", now)?;
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn server_params(names: &[String], now: Timestamp) -> Result<CertificateParams> {
    let mut params = params(names, "kube-apiserver", now)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(names: &[String], common_name: &str, now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(certificate)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = now.to_zoned(TimeZone::UTC).date();
    let yesterday = today.checked_sub(1.day()).unwrap_or(today);
    let date = |date: jiff::civil::Date, years: i32| {
        // 28 at most, so that the day is there in every month of every year.
        let day = date.day().clamp(1, 28).unsigned_abs();
        rcgen::date_time_ymd(i32::from(date.year()) + years, date.month().unsigned_abs(), day)
    };
    params.not_before = date(yesterday, 0);
    params.not_after = date(today, YEARS);
    Ok(params)
}

/// The key in a file, or a new one that is written there; and whether it is new.
fn kept_key(path: &Path) -> Result<(KeyPair, bool)> {
    if let Some(pem) = read(path)? {
        let key = KeyPair::from_pem(&pem).map_err(|e| {
            Error::caused(format!("{} holds no private key; delete it to get a new one", path.display()), e)
        })?;
        return Ok((key, false));
    }
    let key = KeyPair::generate().map_err(certificate)?;
    write(path, &key.serialize_pem())?;
    Ok((key, true))
}

fn certificate(error: rcgen::Error) -> Error {
    Error::caused("cannot make a certificate", error)
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::caused(format!("cannot read {}", path.display()), error)),
    }
}

/// Writes a file that only its owner reads, whole or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |error| Error::caused(format!("cannot write {}", path.display()), error);
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_outlive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let first = Credentials::open(directory.path(), &names, now).unwrap();
        let second = Credentials::open(directory.path(), &names, now).unwrap();
        assert_eq!(first.authority, second.authority);
        assert_eq!(first.admin_certificate, second.admin_certificate);
        assert_eq!(first.token, second.token);
        for file in ["ca.key", "admin.key", "token"] {
            let mode = fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{file}");
        }
    }

    #[test]
    fn a_broken_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.key"), "nonsense").unwrap();
        let error = Credentials::open(directory.path(), &[], Timestamp::UNIX_EPOCH).err().unwrap();
        assert!(error.to_string().contains("ca.key holds no private key"), "{error}");
    }
}
