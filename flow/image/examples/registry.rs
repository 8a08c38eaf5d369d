//! A registry on its own, for measurements: `registry DIRECTORY ADDRESS`. Everybody may do everything.

use std::sync::Arc;

use image::{
    Registry,
    registry::{
        events::Events,
        http::{AllowAll, Extras, Listener, router_with, serve},
    },
};
use store::{DirectoryBlobs, LeasedBlobs, SqliteLog};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, address] = &arguments[..] else { return Err("registry DIRECTORY ADDRESS".into()) };
    let directory = std::path::Path::new(directory);
    #[allow(clippy::disallowed_methods, reason = "this is the program that has a clock")]
    let clock: image::Clock = Arc::new(records::Timestamp::now);
    let log = Arc::new(SqliteLog::open(directory.join("records.db")).await?);
    let blobs = Arc::new(DirectoryBlobs::open(directory.join("blobs")).await?);
    let blobs = Arc::new(LeasedBlobs::new(blobs, clock.clone()));
    let registry = Registry::new(blobs, log, directory.join("uploads"), clock);
    let (events, writing) = Events::new(registry.clone());
    tokio::spawn(writing.run());
    let extras = Extras { events: Some(events), ..Extras::default() };
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = router_with(registry, Arc::new(AllowAll), extras);
    serve(Listener::new(listener), router, std::future::pending()).await;
    Ok(())
}
