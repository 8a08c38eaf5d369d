//! The object store backend passes the contract: in memory, with requests that fail, and on a real S3 server where there is one (a program
//! `gofakes3` in PATH or named by `S3_SERVER`).

use std::{
    fmt,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart, memory::InMemory, path::Path,
};
use store::{Blobs, Kind, object::ObjectBlobs};

#[tokio::test(flavor = "multi_thread")]
async fn contract_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = ObjectBlobs::new(Arc::new(InMemory::new()), "some/prefix", dir.path().join("spool")).await.unwrap();
    store::contract::blobs(Arc::new(blobs)).await;
    assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0, "no temporary file is left");
}

/// Fails the n-th call.
#[derive(Debug, Clone)]
struct Faulty {
    inner: Arc<InMemory>,
    left: Arc<AtomicUsize>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

impl Faulty {
    fn call(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return Ok(());
        }
        Err(object_store::Error::Generic { store: "faulty", source: "the store is away".into() })
    }
}

#[derive(Debug)]
struct FaultyUpload(Box<dyn MultipartUpload>, Faulty);

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (called, part) = (self.1.call(), self.0.put_part(data));
        Box::pin(async move {
            called?;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.1.call()?;
        self.0.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.0.abort().await
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call()?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call()?;
        Ok(Box::new(FaultyUpload(self.inner.put_multipart_opts(location, options).await?, self.clone())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_leaves_nothing_half_there() {
    let large: Vec<u8> = (0..40_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for content in [b"small".to_vec(), large] {
        let mut finished = false;
        for nth in 1..12 {
            let dir = tempfile::tempdir().unwrap();
            let (inner, left) = (Arc::new(InMemory::new()), Arc::new(AtomicUsize::new(nth)));
            let objects = Faulty { inner: inner.clone(), left: left.clone() };
            let blobs = ObjectBlobs::new(Arc::new(objects), "", dir.path().join("spool")).await.unwrap();
            let done = store::blobs::put(&blobs, content.clone()).await;
            left.store(usize::MAX / 2, Ordering::Relaxed);
            match done {
                Ok(digest) => {
                    finished = true;
                    assert_eq!(blobs.size(&digest).await.unwrap(), Some(content.len() as u64));
                }
                Err(error) => {
                    assert_eq!(error.kind, Kind::Io, "{error}");
                    assert!(blobs.list().await.unwrap().is_empty(), "call {nth} failed");
                    let digest = store::blobs::put(&blobs, content.clone()).await.unwrap();
                    assert!(store::blobs::get(&blobs, &digest, 1 << 30).await.unwrap() == content, "and then it works");
                }
            }
            assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
        }
        assert!(finished, "there are fewer calls than that");
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_on_an_s3_server() {
    let program = std::env::var("S3_SERVER").unwrap_or_else(|_| "gofakes3".into());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let mut command = Command::new(&program);
    command.args(["-backend", "memory", "-autobucket", "-initialbucket", "blobs", "-host", &host]);
    let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return eprintln!(
            "SKIPPED: there is no S3 server `{program}` (go install github.com/johannesboyne/gofakes3/cmd/gofakes3)"
        );
    };
    let _server = Server(child);
    for _ in 0..3000 {
        if tokio::net::TcpStream::connect(&host).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let settings = [
        setting("AWS_ENDPOINT", &format!("http://{host}")),
        setting("AWS_REGION", "us-east-1"),
        setting("AWS_ACCESS_KEY_ID", "test"),
        setting("AWS_SECRET_ACCESS_KEY", "test"),
        setting("HOME", "/"),
    ];
    let blobs = ObjectBlobs::s3("s3://blobs/a/b", &settings, dir.path().join("spool")).await.unwrap();
    store::contract::blobs(Arc::new(blobs.clone())).await;
    // Large enough for several parts.
    let content: Vec<u8> = (0..37_000_000_u32).map(|i| (i.wrapping_mul(2_246_822_519) >> 24) as u8).collect();
    let digest = store::blobs::put(&blobs, content.clone()).await.unwrap();
    assert!(store::blobs::get(&blobs, &digest, 1 << 30).await.unwrap() == content);
    let file = dir.path().join("file");
    std::fs::write(&file, "adopted").unwrap();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"adopted");
    let digest = records::Digest::sha256(sum.as_ref().try_into().unwrap());
    assert!(blobs.adopt(&file, &digest).await.unwrap());
    assert_eq!(store::blobs::get(&blobs, &digest, 100).await.unwrap(), "adopted");
}
