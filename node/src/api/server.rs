//! The listener: TLS, connections, and an end in good order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::streams::PodStreams;
use super::{Api, gc, namespaces, route};
use crate::objects::Objects;
use crate::tls::Credentials;
use crate::{Error, Result};

/// How long a client may take over the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take over the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// The most connections at a time; more wait to be taken.
const CONNECTIONS: usize = 2048;
/// How long connections may take to end by themselves.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the API is served.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where certificates and the token are kept.
    pub directory: PathBuf,
    /// Further host names and addresses under which the API is reached.
    pub names: Vec<String>,
}

/// A running API.
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    credentials: Credentials,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Makes the namespaces that are always there and starts to serve, to collect garbage and to empty deleted namespaces.
    pub async fn start(config: ServerConfig, objects: Objects, streams: Arc<dyn PodStreams>) -> Result<Self> {
        let names = names(&config, &objects);
        let (directory, now) = (config.directory.clone(), objects.now());
        let credentials = tokio::task::spawn_blocking(move || Credentials::open(&directory, &names, now))
            .await
            .map_err(|e| Error::caused("making the certificates was interrupted", e))??;
        let listener = TcpListener::bind(config.listen).await.map_err(|e| {
            Error::caused(format!("cannot listen on {} for the Kubernetes API; choose another port", config.listen), e)
        })?;
        let addr =
            listener.local_addr().map_err(|e| Error::caused("cannot tell where the Kubernetes API listens", e))?;
        namespaces::ensure(&objects).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let api = Arc::new(Api {
            objects: objects.clone(),
            streams,
            token: credentials.token.clone(),
            address: addr.to_string(),
            stop: stop.clone(),
        });
        tasks.spawn(gc::run(objects.clone(), stop.clone()));
        tasks.spawn(namespaces::run(objects, stop.clone()));
        let acceptor = TlsAcceptor::from(credentials.server.clone());
        tasks.spawn(accept(listener, acceptor, api, stop.clone(), tasks.clone()));
        Ok(Self { addr, credentials, stop, tasks })
    }

    /// The text of a kubeconfig for the administrator, by client certificate.
    pub fn kubeconfig(&self) -> String {
        self.credentials.kubeconfig(&self.url())
    }

    pub fn url(&self) -> String {
        let mut addr = self.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("https://{addr}")
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Ends watches and streams, waits a moment for requests under way, and closes.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(2 * FAREWELL, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections to the Kubernetes API did not end in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The names in the server's certificate.
fn names(config: &ServerConfig, objects: &Objects) -> Vec<String> {
    let first = u32::from(objects.service_network().network).wrapping_add(1);
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".into(),
        "::1".into(),
        "kubernetes".into(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        "kubernetes.default.svc.cluster.local".into(),
        std::net::Ipv4Addr::from(first).to_string(),
    ];
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    names.extend(config.names.iter().cloned());
    names.dedup();
    names
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, api: Arc<Api>, stop: CancellationToken, tasks: TaskTracker) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let taking = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            taken = taking => taken,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, tls.clone(), api.clone(), stop.clone());
                tasks.spawn(async move {
                    let _place = place;
                    serving.await;
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others will end.
                tracing::warn!(%error, "a connection to the Kubernetes API could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, api: Arc<Api>, stop: CancellationToken) {
    // Watch events are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    let certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(route::answer(api, request, certified).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(128);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(512).keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(FAREWELL, connection).await;
}
