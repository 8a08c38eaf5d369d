//! Git's smart HTTP protocol without the HTTP: bytes in, bytes out. See `gitprotocol-http(5)`.

use std::{
    future::Future,
    pin::Pin,
    process::ExitStatus,
    task::{Context, Poll, ready},
};

use records::Name;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    process::{Child, ChildStdout, Command},
};

use crate::{Error, Repositories, Result, git};

/// What a client asks of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// To clone and fetch.
    UploadPack,
    /// To push.
    ReceivePack,
}

impl Service {
    /// As it stands in URLs and media types: `git-upload-pack` or `git-receive-pack`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|service| service.name() == name)
    }

    /// The media type of the answer to `GET info/refs?service=…`.
    pub fn advertisement_type(self) -> String {
        format!("application/x-{}-advertisement", self.name())
    }

    /// The media type of the body of a `POST`.
    pub fn request_type(self) -> String {
        format!("application/x-{}-request", self.name())
    }

    /// The media type of the answer to a `POST`.
    pub fn result_type(self) -> String {
        format!("application/x-{}-result", self.name())
    }

    fn command(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }
}

impl Repositories {
    /// The body of the answer to `GET /<project>.git/info/refs?service=…`. `protocol` is the `Git-Protocol` header.
    pub async fn advertise(&self, project: &Name, service: Service, protocol: Option<&str>) -> Result<Exchange> {
        let protocol = protocol.filter(|text| plausible(text));
        // As git's own http-backend: version 2 has no announcement in front.
        let version2 = protocol.is_some_and(|text| text.split(':').any(|part| part == "version=2"));
        let announcement = if version2 { String::new() } else { announcement(service) };
        self.exchange(project, service, true, protocol, announcement, tokio::io::empty()).await
    }

    /// The body of the answer to `POST /<project>.git/git-upload-pack` or `…/git-receive-pack`, whose body is `body` (not compressed).
    /// Dropping the answer ends what git is doing for it.
    pub async fn serve(
        &self,
        project: &Name,
        service: Service,
        body: impl AsyncRead + Send + 'static,
        protocol: Option<&str>,
    ) -> Result<Exchange> {
        self.exchange(project, service, false, protocol.filter(|text| plausible(text)), String::new(), body).await
    }

    async fn exchange(
        &self,
        project: &Name,
        service: Service,
        advertise: bool,
        protocol: Option<&str>,
        announcement: String,
        body: impl AsyncRead + Send + 'static,
    ) -> Result<Exchange> {
        let mut command = self.git(project)?;
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| Error::Invalid("the server is stopping".into()))?;
        command.arg(service.command()).arg("--stateless-rpc");
        if advertise {
            command.arg("--http-backend-info-refs");
        } else {
            command.stdin(std::process::Stdio::piped());
        }
        command.arg(self.path(project));
        if let Some(protocol) = protocol {
            command.env("GIT_PROTOCOL", protocol);
        }
        let mut command = Command::from(command);
        // A group of its own, so that what git starts ends with it.
        command.process_group(0);
        let mut child = git::spawn(command)?;
        let missing = || Error::Git { doing: service.command().into(), said: "it has no output".into() };
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let limit = match service {
            // Wants and haves.
            Service::UploadPack => 64 << 20,
            // Git refuses a pack over the limit with a sentence that the client shows; that takes reading all that is sent.
            Service::ReceivePack => self.limits.pack_bytes.saturating_mul(4).saturating_add(16 << 20),
        };
        let feed = async move {
            let mut body = Box::pin(body.take(limit));
            if let Some(mut stdin) = stdin {
                let copied = tokio::io::copy(&mut body, &mut stdin).await;
                let _ = stdin.shutdown().await;
                drop(stdin);
                if copied.is_err() {
                    // Git has heard enough; the client has to be heard out before it listens.
                    let _ = tokio::io::copy(&mut body, &mut tokio::io::sink()).await;
                }
            }
        };
        let said = async move {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                let mut stderr = stderr.take(git::SAID);
                let _ = stderr.read_to_end(&mut said).await;
                // Whatever more there is must not fill the pipe.
                let _ = tokio::io::copy(stderr.get_mut(), &mut tokio::io::sink()).await;
            }
            said
        };
        Ok(Exchange {
            project: project.clone(),
            service,
            announcement: announcement.into_bytes(),
            stdout: Some(stdout),
            feed: Some(Box::pin(feed)),
            said: Saying::Running(Box::pin(said)),
            child,
            ended: None,
            deadline: Box::pin(tokio::time::sleep(self.limits.exchange_time)),
            then: None,
            _slot: slot,
        })
    }
}

/// A request that git is answering: reads as the answer's body. Dropped, it ends git.
pub struct Exchange {
    project: Name,
    service: Service,
    announcement: Vec<u8>,
    stdout: Option<ChildStdout>,
    /// Gives git the request.
    feed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    said: Saying,
    child: Child,
    ended: Option<ExitStatus>,
    deadline: Pin<Box<tokio::time::Sleep>>,
    then: Option<Box<dyn FnOnce() + Send>>,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

enum Saying {
    Running(Pin<Box<dyn Future<Output = Vec<u8>> + Send>>),
    Said(Vec<u8>),
}

impl Exchange {
    /// Calls `then` once when git has ended well: after a push, all refs have been moved.
    pub fn then(mut self, then: impl FnOnce() + Send + 'static) -> Self {
        self.then = Some(Box::new(then));
        self
    }

    fn end(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        if status.success() {
            if let Some(then) = self.then.take() {
                then();
            }
            return;
        }
        let said = match &self.said {
            Saying::Said(said) => String::from_utf8_lossy(said).trim().to_owned(),
            Saying::Running(_) => String::new(),
        };
        tracing::warn!(project = %self.project, service = self.service.name(), %status, said, "git failed");
    }

    /// Asks git, and what it started, to stop; it then cleans up what it had begun.
    fn stop(&mut self) {
        if self.ended.is_none()
            && let Some(id) = self.child.id()
        {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id as i32), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

impl AsyncRead for Exchange {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        if !this.announcement.is_empty() {
            let now = this.announcement.len().min(buf.remaining());
            buf.put_slice(&this.announcement[..now]);
            this.announcement.drain(..now);
            return Poll::Ready(Ok(()));
        }
        if this.deadline.as_mut().poll(cx).is_ready() {
            this.stop();
            let message = format!("{} of project {} took too long", this.service.name(), this.project);
            return Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message)));
        }
        if let Some(feed) = &mut this.feed
            && feed.as_mut().poll(cx).is_ready()
        {
            this.feed = None;
        }
        if let Saying::Running(saying) = &mut this.said
            && let Poll::Ready(said) = saying.as_mut().poll(cx)
        {
            this.said = Saying::Said(said);
        }
        if let Some(stdout) = &mut this.stdout {
            let before = buf.filled().len();
            ready!(Pin::new(stdout).poll_read(cx, buf))?;
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.stdout = None;
        }
        // Git has said all: the answer ends when it has ended too, so that whoever reads to the end knows that its work is done.
        if this.ended.is_none() {
            let status = {
                let wait = std::pin::pin!(this.child.wait());
                ready!(wait.poll(cx))?
            };
            this.end(status);
        }
        // A client that is still sending would be cut off before it reads the answer.
        if this.feed.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The packet line that stands in front of an advertisement, and the flush behind it.
fn announcement(service: Service) -> String {
    let line = format!("# service={}\n", service.name());
    format!("{:04x}{line}0000", line.len() + 4)
}

/// Whether a `Git-Protocol` header is one that git could have sent; others are as if they were not there.
fn plausible(text: &str) -> bool {
    text.len() <= 200 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"=:-_.,".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_of_the_protocol_document() {
        assert_eq!(announcement(Service::UploadPack), "001e# service=git-upload-pack\n0000");
        assert_eq!(announcement(Service::ReceivePack), "001f# service=git-receive-pack\n0000");
        assert_eq!(Service::from_name("git-receive-pack"), Some(Service::ReceivePack));
        assert_eq!(Service::from_name("git-shell"), None);
    }
}
