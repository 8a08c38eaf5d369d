//! Serves a router on connections that can send files, each with a limit on what it may take.

use std::{convert::Infallible, future::Future, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    serve::Listener as Accepts,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Direct, Listener};

/// The most connections at the same time; with fewer open files allowed, half of those. More wait until one ends.
const CONNECTIONS: u64 = 16_384;

/// How much of what a client sends is held for its connection before somebody takes it; also what the head of a request may have.
const HELD: usize = 128 << 10;

/// Answers until `end`, and then until the requests under way are answered. Dropped, it drops every connection.
pub async fn serve(mut listener: Listener, router: Router, end: impl Future<Output = ()>) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(listener.patience.head).max_buf_size(HELD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(listener.patience.head).enable_connect_protocol();
    let builder = Arc::new(builder);
    let ending = CancellationToken::new();
    let places = Arc::new(Semaphore::new(connections()));
    let mut all = JoinSet::new();
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let ((wire, address), place) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = all.join_next() => continue,
            () = &mut end => break,
        };
        let (builder, router, ending) = (builder.clone(), router.clone(), ending.clone());
        all.spawn(async move {
            let _place = place;
            let answer = service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(Direct(())));
                request.extensions_mut().insert(ConnectInfo(address));
                let router = router.clone();
                async move { router.oneshot(request).await.map_err(|never: Infallible| never) }
            });
            let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(wire), answer));
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = ending.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
    drop(listener);
    ending.cancel();
    while all.join_next().await.is_some() {}
}

fn connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(CONNECTIONS.min(files / 2).max(64)).unwrap_or(64)
}
