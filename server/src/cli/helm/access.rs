//! How repositories and registries are reached: credentials, certificates, and requests under bounds.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use futures::StreamExt;
use reqwest::{StatusCode, Url};

use crate::fault::{Class, Fault, Result};

/// Bytes of a repository's index at most.
pub const LARGEST_INDEX: usize = 256 << 20;
/// Bytes of a packed chart at most.
pub const LARGEST_CHART: usize = 100 << 20;
/// Bytes of a file of values at most.
pub const LARGEST_VALUES: usize = 100 << 20;

// The flags that say how a repository or registry is reached.
#[derive(Clone, Default, Args)]
pub struct Access {
    /// User name for the repository
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password for the repository
    #[arg(long, value_name = "TEXT")]
    pub password: Option<String>,
    /// Send the credentials to every host that the repository names
    #[arg(long)]
    pub pass_credentials: bool,
    /// Certificate of this client
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// Certificates of the authorities that vouch for the server
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Do not ask who the server is
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,
    /// Speak to the registry without TLS
    #[arg(long)]
    pub plain_http: bool,
}

/// An URL as it may be shown: without its password.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() {
        // It has a host, since it has a password.
        let _ = shown.set_password(Some("xxxxx"));
    }
    shown.into()
}

/// The same of a text that may be an URL; what only looks like one loses everything before its last `@`.
pub fn shown_text(text: &str) -> String {
    match (Url::parse(text), text.split_once("://")) {
        (Ok(url), _) if url.password().is_some() => shown(&url),
        (Err(_), Some((scheme, rest))) if rest.contains('@') => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            format!("{scheme}://xxxxx@{rest}")
        }
        _ => text.to_owned(),
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("username", &self.username)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// What lies under an URL of values, for who cannot wait: asked for on a thread of its own. Credentials come only from the URL.
pub fn values(url: &str) -> std::result::Result<Vec<u8>, String> {
    let url = url.to_owned();
    let asking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| format!("cannot fetch {}: {e}", shown_text(&url)))?;
        runtime.block_on(Access::default().get(&url, &url, LARGEST_VALUES)).map_err(|fault| fault.message)
    });
    asking.join().unwrap_or_else(|_| Err("fetching values was cut short".to_owned()))
}

impl Access {
    /// Whether a flag is there that only means something with TLS.
    pub fn wants_tls(&self) -> bool {
        !self.plain_http && (self.ca_file.is_some() || self.cert_file.is_some() || self.insecure_skip_tls_verify)
    }

    /// The client that these flags describe.
    pub fn http(&self) -> Result<reqwest::Client> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| Fault::usage(format!("cannot read {}: {e}", path.display())))
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("shipway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(Duration::from_secs(120))
            .redirect(reqwest::redirect::Policy::limited(10))
            .tls_danger_accept_invalid_certs(self.insecure_skip_tls_verify);
        if let Some(path) = &self.ca_file {
            let unusable = |e| Fault::usage(format!("{} holds no certificates in PEM: {e}", path.display()));
            let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(unusable)?;
            builder = builder.tls_certs_only(certificates);
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
                Fault::usage(format!("{} and {} are no certificate and its key", certificate.display(), key.display()))
            })?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|e| Fault::from_error(Class::Internal, &e))
    }

    /// What lies under an URL. The credentials go with it if it has the origin of `home`, whose they are.
    pub async fn get(&self, url: &str, home: &str, limit: usize) -> Result<Vec<u8>> {
        let parse =
            |text: &str| Url::parse(text).map_err(|e| Fault::usage(format!("`{}` is no URL: {e}", shown_text(text))));
        let (address, home) = (parse(url)?, parse(home)?);
        let named = shown_text(url);
        if !matches!(address.scheme(), "http" | "https") {
            return Err(Fault::usage(format!("could not find protocol handler for: {}", address.scheme()))
                .hint("charts come from directories, archives, http(s):// and oci://"));
        }
        let mut request =
            self.http()?.get(address.clone()).header("Accept", "application/gzip,application/octet-stream,*/*");
        if let (Some(user), Some(password)) = (&self.username, &self.password)
            && (self.pass_credentials || address.origin() == home.origin())
        {
            request = request.basic_auth(user, Some(password));
        }
        let unreachable = |e: reqwest::Error| {
            let why = crate::fault::chain(&e.without_url());
            Fault::new(Class::Unavailable, format!("cannot fetch {named}: {why}"))
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status != StatusCode::OK {
            let class = match status {
                StatusCode::NOT_FOUND => Class::NotFound,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Class::Unauthorized,
                _ => Class::Unavailable,
            };
            return Err(Fault::new(class, format!("failed to fetch {named} : {status}")));
        }
        let mut content = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(unreachable)?;
            if content.len() + chunk.len() > limit {
                return Err(Fault::new(Class::TooLarge, format!("{named} has more than {limit} bytes")));
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (given, expected) in [
            ("https://me:secret@charts.example/a?b=c", "https://me:xxxxx@charts.example/a?b=c"),
            ("https://charts.example/a", "https://charts.example/a"),
            ("https://me@charts.example/a", "https://me@charts.example/a"),
            ("https://me:se@cret@charts.example:bad/", "https://xxxxx@charts.example:bad/"),
            ("web/chart", "web/chart"),
        ] {
            assert_eq!(shown_text(given), expected);
        }
    }

    #[tokio::test]
    async fn errors_name_no_password() {
        for url in ["http://me:secret@127.0.0.1:1/index.yaml", "http://me:secret@[", "ftp://me:secret@127.0.0.1/"] {
            let fault = Access::default().get(url, url, 10).await.unwrap_err();
            assert!(!fault.to_string().contains("secret"), "{fault}");
        }
    }
}
