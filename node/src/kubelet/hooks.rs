//! What probes and lifecycle hooks do: run a program, ask over HTTP, open a connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::runtime::{ContainerId, ExecRequest, Runtime};

/// How much of an answer is read and repeated.
const ANSWER: usize = 10 << 10;

/// One thing to do in or to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    Exec(Vec<String>),
    Http(HttpGet),
    Tcp { host: Option<String>, port: u16 },
    Sleep(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    pub host: Option<String>,
    pub port: u16,
    pub path: String,
    pub https: bool,
    pub headers: Vec<(String, String)>,
}

/// A port by its number or by the name that the container gives it.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => text.parse().ok().or_else(|| {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(text));
            named.map(|port| port.container_port)
        }),
    };
    let valid = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    valid.ok_or_else(|| format!("the container {} has no port {port:?}", container.name))
}

fn http(container: &Container, action: &HTTPGetAction) -> Result<HttpGet, String> {
    let path = action.path.clone().unwrap_or_else(|| "/".into());
    let headers = action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Ok(HttpGet {
        host: action.host.clone().filter(|host| !host.is_empty()),
        port: port(container, &action.port)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        https: action.scheme.as_deref() == Some("HTTPS"),
        headers: headers.collect(),
    })
}

/// What a probe asks; an error says what is wrong with the probe itself.
pub fn of_probe(container: &Container, probe: &Probe) -> Result<Hook, String> {
    if let Some(exec) = &probe.exec {
        return Ok(Hook::Exec(exec.command.clone().unwrap_or_default()));
    }
    if let Some(action) = &probe.http_get {
        return http(container, action).map(Hook::Http);
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().filter(|host| !host.is_empty());
        return Ok(Hook::Tcp { host, port: port(container, &action.port)? });
    }
    Err("this node has exec, httpGet and tcpSocket probes only".into())
}

pub fn of_lifecycle(container: &Container, handler: &LifecycleHandler) -> Result<Hook, String> {
    if let Some(exec) = &handler.exec {
        return Ok(Hook::Exec(exec.command.clone().unwrap_or_default()));
    }
    if let Some(action) = &handler.http_get {
        return http(container, action).map(Hook::Http);
    }
    if let Some(sleep) = &handler.sleep {
        return Ok(Hook::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))));
    }
    Err("this node has exec, httpGet and sleep hooks only".into())
}

/// Does it once. An error is a sentence for people.
pub async fn run(runtime: &Arc<dyn Runtime>, id: &ContainerId, ip: Option<IpAddr>, hook: &Hook) -> Result<(), String> {
    match hook {
        Hook::Exec(argv) => exec(runtime, id, argv).await,
        Hook::Http(get) => fetch(runtime, id, ip, get).await,
        Hook::Tcp { host, port } => connect(runtime, id, ip, host.as_deref(), *port).await.map(drop),
        Hook::Sleep(duration) => {
            tokio::time::sleep(*duration).await;
            Ok(())
        }
    }
}

async fn exec(runtime: &Arc<dyn Runtime>, id: &ContainerId, argv: &[String]) -> Result<(), String> {
    let request = ExecRequest { argv: argv.to_vec(), ..ExecRequest::default() };
    let mut session = runtime.exec(id, &request).await.map_err(|e| e.to_string())?;
    let mut said = Vec::new();
    let mut errors = Vec::new();
    let stdout = read(&mut session.stdout, &mut said);
    let stderr = async {
        if let Some(stderr) = &mut session.stderr {
            read(stderr, &mut errors).await;
        }
    };
    let ((), (), exit) = tokio::join!(stdout, stderr, &mut session.exit);
    said.extend(errors);
    match exit {
        Ok(0) => Ok(()),
        Ok(code) => Err(format!("command failed with exit code {code}: {}", String::from_utf8_lossy(&said).trim())),
        Err(_) => Err("the command ended in a way that is not known".into()),
    }
}

/// Reads to the end, keeping the first part.
async fn read(stream: &mut (dyn tokio::io::AsyncRead + Send + Unpin), into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let room = ANSWER.saturating_sub(into.len()).min(n);
        into.extend_from_slice(&buffer[..room]);
    }
}

async fn connect(
    runtime: &Arc<dyn Runtime>,
    id: &ContainerId,
    ip: Option<IpAddr>,
    host: Option<&str>,
    port: u16,
) -> Result<TcpStream, String> {
    if let Some(host) = host {
        return TcpStream::connect((host, port)).await.map_err(|e| format!("dial tcp {host}:{port}: {e}"));
    }
    let ip = ip.ok_or("the pod has no address yet")?;
    runtime.connect(&id.pod, ip, port).await.map_err(|e| e.to_string())
}

async fn fetch(runtime: &Arc<dyn Runtime>, id: &ContainerId, ip: Option<IpAddr>, get: &HttpGet) -> Result<(), String> {
    let stream = connect(runtime, id, ip, get.host.as_deref(), get.port).await?;
    let authority = match (&get.host, ip) {
        (Some(host), _) => format!("{host}:{}", get.port),
        (None, Some(ip)) => format!("{ip}:{}", get.port),
        (None, None) => format!("localhost:{}", get.port),
    };
    let status = if get.https {
        let config = tls_without_verification();
        let name = rustls_pki_types::ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(|e| e.to_string())?;
        ask(TokioIo::new(stream), get, &authority).await?
    } else {
        ask(TokioIo::new(stream), get, &authority).await?
    };
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

async fn ask<S>(stream: S, get: &HttpGet, authority: &str) -> Result<u16, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|e| format!("Get {:?}: {e}", get.path))?;
    let mut request = http::Request::get(&get.path)
        .header("Host", authority)
        .header("User-Agent", "kube-probe/1.34")
        .header("Accept", "*/*")
        .header("Connection", "close");
    if let Some(headers) = request.headers_mut() {
        for (name, value) in &get.headers {
            let name = http::HeaderName::try_from(name.as_str()).map_err(|e| e.to_string())?;
            headers.insert(name, http::HeaderValue::try_from(value.as_str()).map_err(|e| e.to_string())?);
        }
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|e| format!("Get {:?}: {e}", get.path))?;
        let status = response.status().as_u16();
        // Read politely, so that the program's log shows no broken pipe; what is longer is not waited for.
        let _ = Limited::new(response.into_body(), ANSWER).collect().await;
        Ok(status)
    };
    // The connection ends with this future; nothing is left behind.
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        status = &mut answer => status,
        ended = &mut connection => match ended {
            Err(error) => Err(format!("Get {:?}: {error}", get.path)),
            Ok(()) => answer.await,
        },
    }
}

/// A probe asks whether the program answers, not who it is: certificates are not looked at, as in Kubernetes.
fn tls_without_verification() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            // The provider's own versions are always supported by it.
            .expect("the provider supports its default versions");
        let verifier = Arc::new(AnyCertificate(provider));
        Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]})).unwrap()
    }

    #[test]
    fn probes_and_hooks_are_read_with_their_ports() {
        let probe = |value| of_probe(&container(), &serde_json::from_value(value).unwrap());
        let Hook::Http(get) = probe(json!({"httpGet": {"path": "ready", "port": "http", "scheme": "HTTPS"}})).unwrap()
        else {
            panic!("an HTTP probe")
        };
        assert_eq!((get.path.as_str(), get.port, get.https), ("/ready", 8080, true));
        assert_eq!(probe(json!({"tcpSocket": {"port": 9}})).unwrap(), Hook::Tcp { host: None, port: 9 });
        assert!(probe(json!({"tcpSocket": {"port": "none"}})).is_err());
        assert!(probe(json!({"grpc": {"port": 9}})).is_err());
        let sleep = serde_json::from_value(json!({"sleep": {"seconds": 2}})).unwrap();
        assert_eq!(of_lifecycle(&container(), &sleep).unwrap(), Hook::Sleep(Duration::from_secs(2)));
    }
}
