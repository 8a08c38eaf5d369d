//! `shipway up`: opens everything on a data directory, serves until it is told to end, and ends in order.

use std::{ffi::OsString, io::ErrorKind, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};

use image::registry::http::{Listener, serve};
use store::{Blobs, LeasedBlobs, ObjectBlobs, Records, directory::DirectoryBlobs, sqlite::SqliteLog};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::App,
    clock,
    config::Config,
    fault::{Class, Fault, Result},
    http,
    logs::Logs,
    secrets::Secrets,
    supervisor::Supervisor,
    token::Token,
    wake::Wake,
    wiring::{self, Rooms},
};

/// How long the parts of the server have to end.
const END: Duration = Duration::from_secs(20);

/// Serves until SIGTERM or Ctrl-C.
pub async fn up(config: Config) -> Result<()> {
    // Signals are caught before anything is made that has to be undone.
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    make_private(&config.data)?;
    let listener = listen(&config).await?;
    let (app, log) = open(config, &listener).await?;
    wiring::start(&app);
    tracing::info!(address = %app.rooms.address(), data = %app.config.data.display(), "ready");
    let cancel = app.supervisor.token();
    let registry = wiring::serve_registry(&app)?;
    let router = http::router(app.clone(), registry);
    let served = serve(Listener::new(listener), router, async move { cancel.cancelled().await });
    let mut served = tokio::spawn(served);
    let reason = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "Ctrl-C",
        _ = &mut served => "the listener failed",
    };
    app.supervisor.shutdown(reason, END).await;
    app.rooms.close(END).await;
    // Clients that keep their connection open do not keep the server from ending.
    let _ = tokio::time::timeout(Duration::from_secs(1), served).await;
    log.close().await?;
    Ok(())
}

async fn open(config: Config, listener: &TcpListener) -> Result<(Arc<App>, Arc<SqliteLog>)> {
    let data = config.data.clone();
    let log = Arc::new(SqliteLog::open(&data.join("records.db")).await?);
    let clock = clock::system();
    let kept: Arc<dyn Blobs> = match &config.blobs {
        Some(address) => {
            let text =
                |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
            let settings = std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("AWS_"));
            let settings: Vec<(String, String)> = settings.collect();
            Arc::new(ObjectBlobs::s3(address, &settings, data.join("spool")).await?)
        }
        None => Arc::new(DirectoryBlobs::open(data.join("blobs")).await?),
    };
    let blobs: Arc<dyn Blobs> = Arc::new(LeasedBlobs::new(kept, clock.clone()));
    let records = Records::new(log.clone());
    let token = Token::load_or_create(&data.join("admin-token"))?;
    let address = listener.local_addr().map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    let rooms = Rooms::open(&config, address, records.clone(), blobs.clone(), clock.clone()).await?;
    let app = Arc::new(App {
        logs: Logs::new(data.join("logs")),
        secrets: Secrets::new(data.join("secrets")),
        supervisor: Supervisor::new(),
        wake: Wake::new(&wiring::KINDS),
        config,
        clock,
        token,
        records,
        blobs,
        rooms,
    });
    Ok((app, log))
}

/// Nobody else reads what is in the data directory.
pub fn make_private(data: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data) {
        Ok(()) => Ok(()),
        Err(e) => {
            Err(Fault::new(Class::Unavailable, format!("cannot make the data directory {}: {e}", data.display()))
                .hint("name another one with --data"))
        }
    }
}

async fn listen(config: &Config) -> Result<TcpListener> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|e| {
        let fault = Fault::new(Class::Unavailable, format!("cannot listen on {address}: {e}"));
        match e.kind() {
            ErrorKind::AddrInUse => fault.hint("another program has this port: stop it, or name another with --listen"),
            ErrorKind::PermissionDenied => fault.hint("ports below 1024 need root"),
            _ => fault.hint("name an address of this machine with --listen"),
        }
    })
}
