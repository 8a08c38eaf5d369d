//! A git host for tests: this crate behind a small HTTP server, and the real `git` as its client.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Path as UrlPath, RawQuery, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::TryStreamExt;
use records::{Name, Timestamp};
use source::{Error, Limits, Repositories, Service};
use tokio_util::io::{ReaderStream, StreamReader};

pub struct Host {
    pub repositories: Repositories,
    /// How many exchanges ended well.
    pub ended: Arc<AtomicUsize>,
    pub url: String,
    pub dir: tempfile::TempDir,
}

pub fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

type Shared = (Repositories, Arc<AtomicUsize>);

fn answer(result: Result<source::Exchange, Error>, content_type: String) -> Response {
    match result {
        Ok(exchange) => {
            ([(CONTENT_TYPE, content_type)], Body::from_stream(ReaderStream::new(exchange))).into_response()
        }
        Err(Error::NoProject(_)) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol")?.to_str().ok()
}

async fn refs(
    State((repositories, _)): State<Shared>,
    UrlPath(project): UrlPath<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let service = Service::from_name(query.unwrap().strip_prefix("service=").unwrap()).unwrap();
    let project = name(project.strip_suffix(".git").unwrap());
    answer(repositories.advertise(&project, service, protocol(&headers)).await, service.advertisement_type())
}

async fn exchange(
    State((repositories, ended)): State<Shared>,
    UrlPath((project, service)): UrlPath<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let service = Service::from_name(&service).unwrap();
    assert!(!headers.contains_key("content-encoding"), "the tests' requests are small");
    let body = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let project = name(project.strip_suffix(".git").unwrap());
    let served = repositories.serve(&project, service, body, protocol(&headers)).await;
    let ended = ended.clone();
    let served = served.map(|exchange| {
        exchange.then(move || {
            ended.fetch_add(1, Ordering::SeqCst);
        })
    });
    answer(served, service.result_type())
}

impl Host {
    pub async fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repositories = Repositories::open(dir.path().join("git"), limits).unwrap();
        let ended = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/{project}/info/refs", get(refs))
            .route("/{project}/{service}", post(exchange))
            .with_state((repositories.clone(), ended.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { repositories, ended, url, dir }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A working copy with a first commit, whose `origin` is the project.
    pub async fn work(&self, project: &str) -> PathBuf {
        let work = self.path(&format!("work-{project}"));
        std::fs::create_dir(&work).unwrap();
        self.git(&work, &["init", "-q", "-b", "main"]).await;
        self.git(&work, &["remote", "add", "origin", &format!("{}/{project}.git", self.url)]).await;
        self.commit(&work, &[("README", "first")], "First").await;
        work
    }

    pub async fn commit(&self, work: &Path, files: &[(&str, &str)], message: &str) -> records::CommitId {
        for (path, content) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(work, &["add", "-A"]).await;
        self.git(work, &["commit", "-q", "-m", message]).await;
        self.git(work, &["rev-parse", "HEAD"]).await.trim().parse().unwrap()
    }

    pub async fn git(&self, dir: &Path, args: &[&str]) -> String {
        let output = self.try_git(dir, args).await;
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub async fn try_git(&self, dir: &Path, args: &[&str]) -> Output {
        let mut command = Command::new("git");
        command.current_dir(dir).args(["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org"]);
        command.args(["-c", "http.postBuffer=100000000"]).args(args);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}
