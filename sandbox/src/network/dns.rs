//! The pods' name server: names of the cluster from a [`Resolver`], all others from the servers that this host asks itself.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hickory_server::proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record as ProtoRecord, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// Seconds that an answer may be kept: pods come and go.
const TTL: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(10);
/// Questions under way at once; more wait.
const AT_ONCE: usize = 512;
/// The longest answer over UDP that we pass on.
const LONGEST: usize = 4096;

/// Answers names before they are asked outside. Called for every question: answer from memory.
pub trait Resolver: Send + Sync {
    fn resolve(&self, question: &Question<'_>) -> Answer;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// In lower case, without the dot at its end.
    pub name: &'a str,
    pub kind: RecordKind,
    /// Who asks.
    pub from: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// `A`: IPv4 addresses.
    A,
    /// `AAAA`: IPv6 addresses.
    Aaaa,
    Srv,
    Ptr,
    Other(u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records of the kind that was asked for; empty: the name exists without such. Others are left out.
    Records(Vec<Record>),
    /// Another name stands for it, ours or one from outside (`CNAME`).
    Alias(String),
    /// The name would be ours, and there is no such.
    NoSuchName,
    /// Ask outside.
    NotMine,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Address(IpAddr),
    Service { priority: u16, weight: u16, port: u16, target: String },
    Name(String),
}

impl<F: Fn(&Question<'_>) -> Answer + Send + Sync> Resolver for F {
    fn resolve(&self, question: &Question<'_>) -> Answer {
        self(question)
    }
}

pub(super) struct Server {
    inner: Arc<Inner>,
    stop: CancellationToken,
}

/// What is known here about a question.
enum Known {
    Reply(Message),
    /// So far; what the name stands for is to be added.
    Alias(Message, Name),
    /// To be asked outside.
    Outside,
}

struct Inner {
    own: IpAddr,
    upstream: Vec<SocketAddr>,
    resolver: RwLock<Option<Arc<dyn Resolver>>>,
    room: Semaphore,
}

impl Server {
    pub(super) async fn start(address: Ipv4Addr, upstream: Vec<SocketAddr>) -> Result<Self> {
        let at = SocketAddr::from((address, 53));
        let taken = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::Invalid(format!(
                "port 53 of {address} is taken: a name server of this host listens on all addresses; tell it to listen on its \
                 own only (dnsmasq: `bind-dynamic`), or stop it"
            )),
            _ => Error::net(format!("listen on {at}"))(error),
        };
        let udp = Arc::new(UdpSocket::bind(at).await.map_err(taken)?);
        let tcp = TcpListener::bind(at).await.map_err(taken)?;
        let inner = Arc::new(Inner {
            own: IpAddr::V4(address),
            upstream,
            resolver: RwLock::new(None),
            room: Semaphore::new(AT_ONCE),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve_udp(inner.clone(), udp)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve_tcp(inner.clone(), tcp)));
        Ok(Self { inner, stop })
    }

    pub(super) fn set_resolver(&self, resolver: Arc<dyn Resolver>) {
        *self.inner.resolver.write().unwrap_or_else(PoisonError::into_inner) = Some(resolver);
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve_udp(inner: Arc<Inner>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let question = buffer.get(..length).unwrap_or_default().to_vec();
        let (inner, socket) = (inner.clone(), socket.clone());
        tokio::spawn(async move {
            let Ok(_room) = inner.room.acquire().await else { return };
            if let Some(answer) = inner.answer(&question, from.ip(), false).await {
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn serve_tcp(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        let Ok((mut stream, from)) = listener.accept().await else {
            // Out of descriptors, say: not in a tight loop.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let inner = inner.clone();
        tokio::spawn(async move {
            while let Ok(Ok(question)) = timeout(IDLE, read_framed(&mut stream)).await {
                let Ok(_room) = inner.room.acquire().await else { return };
                let Some(answer) = inner.answer(&question, from.ip(), true).await else { return };
                if write_framed(&mut stream, &answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_framed(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await
}

impl Inner {
    /// `None`: what came is no question, and is not answered.
    async fn answer(&self, question: &[u8], from: IpAddr, tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(question).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let reply = match self.ours(&query, from) {
            Known::Reply(reply) => reply,
            Known::Alias(reply, target) => self.alias(reply, target, from).await,
            Known::Outside => match self.forward(question, tcp).await {
                Some(reply) => return Some(reply),
                None => reply_to(&query, ResponseCode::ServFail),
            },
        };
        let limit = if tcp { usize::from(u16::MAX) } else { usize::from(query.max_payload()).clamp(512, LONGEST) };
        let bytes = reply.to_vec().ok()?;
        if bytes.len() > limit { reply.truncate().to_vec().ok() } else { Some(bytes) }
    }

    /// What stands behind an alias is added to the reply, as resolvers in programs expect. An alias of an alias is left to who asks.
    async fn alias(&self, mut reply: Message, target: Name, from: IpAddr) -> Message {
        let Some(kind) = reply.queries.first().map(Query::query_type).filter(|kind| *kind != RecordType::CNAME) else {
            return reply;
        };
        let mut beyond = Message::query();
        beyond.metadata.recursion_desired = true;
        beyond.add_query(Query::query(target, kind));
        let found = match self.ours(&beyond, from) {
            Known::Reply(found) => Some(found),
            Known::Alias(..) => return reply,
            // Over TCP, so that the answer is whole.
            Known::Outside => {
                let asked = beyond.to_vec().ok();
                let told = match &asked {
                    Some(question) => self.forward(question, true).await,
                    None => None,
                };
                told.and_then(|bytes| Message::from_vec(&bytes).ok())
            }
        };
        match found {
            Some(found) => {
                reply.metadata.response_code = found.metadata.response_code;
                for record in found.answers {
                    reply.add_answer(record);
                }
            }
            None => reply.metadata.response_code = ResponseCode::ServFail,
        }
        reply
    }

    fn ours(&self, query: &Message, from: IpAddr) -> Known {
        let [asked] = query.queries.as_slice() else {
            return Known::Reply(reply_to(query, ResponseCode::FormErr));
        };
        if query.metadata.op_code != OpCode::Query {
            return Known::Reply(reply_to(query, ResponseCode::NotImp));
        }
        let kind = match asked.query_type() {
            RecordType::A => RecordKind::A,
            RecordType::AAAA => RecordKind::Aaaa,
            RecordType::SRV => RecordKind::Srv,
            RecordType::PTR => RecordKind::Ptr,
            other => RecordKind::Other(other.into()),
        };
        let name = asked.name().to_lowercase().to_ascii();
        let question = Question { name: name.trim_end_matches('.'), kind, from };
        let resolver = self.resolver.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(resolver) = resolver else { return Known::Outside };
        match resolver.resolve(&question) {
            Answer::NotMine => Known::Outside,
            Answer::NoSuchName => Known::Reply(reply_to(query, ResponseCode::NXDomain)),
            Answer::Alias(target) => {
                let mut reply = reply_to(query, ResponseCode::NoError);
                let Some(target) = absolute(&target) else {
                    reply.metadata.response_code = ResponseCode::ServFail;
                    return Known::Reply(reply);
                };
                let data = RData::CNAME(CNAME(target.clone()));
                reply.add_answer(ProtoRecord::from_rdata(asked.name().clone(), TTL, data));
                Known::Alias(reply, target)
            }
            Answer::Records(records) => {
                let mut reply = reply_to(query, ResponseCode::NoError);
                let data = records.into_iter().filter_map(|record| data(kind, record));
                for data in data {
                    reply.add_answer(ProtoRecord::from_rdata(asked.name().clone(), TTL, data));
                }
                Known::Reply(reply)
            }
        }
    }

    /// Passes the question on as it is, to one server after the other.
    async fn forward(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        for server in self.servers() {
            let asked = async {
                if tcp {
                    let mut stream = TcpStream::connect(server).await?;
                    write_framed(&mut stream, question).await?;
                    read_framed(&mut stream).await
                } else {
                    let any: SocketAddr =
                        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
                    let socket = UdpSocket::bind(any).await?;
                    socket.connect(server).await?;
                    socket.send(question).await?;
                    let mut buffer = vec![0; LONGEST];
                    loop {
                        let length = socket.recv(&mut buffer).await?;
                        // Anything else is a late answer, or somebody's guess.
                        if length > 2 && buffer.get(..2) == question.get(..2) {
                            buffer.truncate(length);
                            return Ok(buffer);
                        }
                    }
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server cannot be asked"),
                Err(_) => tracing::debug!(%server, "a name server does not answer"),
            }
        }
        None
    }

    /// Read anew each time: a laptop changes networks.
    fn servers(&self) -> Vec<SocketAddr> {
        if !self.upstream.is_empty() {
            return self.upstream.clone();
        }
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        nameservers(&text).into_iter().filter(|ip| *ip != self.own).map(|ip| SocketAddr::new(ip, 53)).collect()
    }
}

fn nameservers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
        })
        .take(3)
        .collect()
}

fn reply_to(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    reply
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()
}

fn data(kind: RecordKind, record: Record) -> Option<RData> {
    match (kind, record) {
        (RecordKind::A, Record::Address(IpAddr::V4(ip))) => Some(RData::A(A(ip))),
        (RecordKind::Aaaa, Record::Address(IpAddr::V6(ip))) => Some(RData::AAAA(AAAA(ip))),
        (RecordKind::Srv, Record::Service { priority, weight, port, target }) => {
            Some(RData::SRV(SRV::new(priority, weight, port, absolute(&target)?)))
        }
        (RecordKind::Ptr, Record::Name(text)) => Some(RData::PTR(PTR(absolute(&text)?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(resolver: impl Resolver + 'static, upstream: Vec<SocketAddr>) -> Inner {
        Inner {
            own: IpAddr::from([10, 0, 0, 1]),
            upstream,
            resolver: RwLock::new(Some(Arc::new(resolver))),
            room: Semaphore::new(1),
        }
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        query.to_vec().unwrap()
    }

    fn cluster(question: &Question<'_>) -> Answer {
        match question.name {
            "web.default.svc.cluster.local" => Answer::Records(vec![
                Record::Address(IpAddr::from([10, 0, 4, 7])),
                Record::Service { priority: 0, weight: 1, port: 80, target: "web.default.svc.cluster.local".into() },
            ]),
            "db.default.svc.cluster.local" => Answer::Alias("web.default.svc.cluster.local".into()),
            "api.default.svc.cluster.local" => Answer::Alias("api.example.org".into()),
            name if name.ends_with(".cluster.local") => Answer::NoSuchName,
            _ => Answer::NotMine,
        }
    }

    async fn ask(inner: &Inner, name: &str, kind: RecordType) -> Message {
        let bytes = inner.answer(&question(name, kind), IpAddr::from([10, 0, 0, 9]), false).await.unwrap();
        Message::from_vec(&bytes).unwrap()
    }

    #[tokio::test]
    async fn names_of_the_cluster_are_answered_whatever_their_case() {
        let inner = inner(cluster, vec![]);
        let reply = ask(&inner, "Web.default.SVC.cluster.local.", RecordType::A).await;
        assert_eq!(reply.answers.len(), 1);
        assert_eq!(reply.answers[0].data.ip_addr(), Some(IpAddr::from([10, 0, 4, 7])));
        assert_eq!(reply.answers[0].ttl, TTL);
        let reply = ask(&inner, "web.default.svc.cluster.local.", RecordType::SRV).await;
        assert!(matches!(&reply.answers[0].data, RData::SRV(srv) if srv.port == 80));
        let reply = ask(&inner, "web.default.svc.cluster.local.", RecordType::AAAA).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
        let reply = ask(&inner, "other.default.svc.cluster.local.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }

    #[tokio::test]
    async fn other_names_are_passed_on_as_they_came() {
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let inner = inner(cluster, vec![outside.local_addr().unwrap()]);
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = outside.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = reply_to(&query, ResponseCode::NoError);
            let data = RData::A(A::new(192, 0, 2, 1));
            reply.add_answer(ProtoRecord::from_rdata(query.queries[0].name().clone(), 60, data));
            outside.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        });
        let reply = ask(&inner, "example.org.", RecordType::A).await;
        assert_eq!(reply.answers[0].data.ip_addr(), Some(IpAddr::from([192, 0, 2, 1])));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_alias_is_told_with_what_it_stands_for() {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = inner(cluster, vec![outside.local_addr().unwrap()]);
        let server = tokio::spawn(async move {
            let (mut stream, _) = outside.accept().await.unwrap();
            let query = Message::from_vec(&read_framed(&mut stream).await.unwrap()).unwrap();
            assert_eq!(query.queries[0].name().to_ascii(), "api.example.org.");
            let mut reply = reply_to(&query, ResponseCode::NoError);
            let data = RData::A(A::new(192, 0, 2, 1));
            reply.add_answer(ProtoRecord::from_rdata(query.queries[0].name().clone(), 60, data));
            write_framed(&mut stream, &reply.to_vec().unwrap()).await.unwrap();
        });
        for (alias, target, address) in [
            ("db.default.svc.cluster.local.", "web.default.svc.cluster.local.", [10, 0, 4, 7]),
            ("api.default.svc.cluster.local.", "api.example.org.", [192, 0, 2, 1]),
        ] {
            let reply = ask(&inner, alias, RecordType::A).await;
            let [first, second] = reply.answers.as_slice() else { panic!("{reply:?}") };
            assert!(matches!(&first.data, RData::CNAME(name) if name.0.to_ascii() == target), "{reply:?}");
            assert_eq!(second.name.to_ascii(), target);
            assert_eq!(second.data.ip_addr(), Some(IpAddr::from(address)));
            let reply = ask(&inner, alias, RecordType::CNAME).await;
            assert_eq!(reply.answers.len(), 1);
        }
        server.await.unwrap();
    }

    #[tokio::test]
    async fn without_servers_the_failure_is_said_and_garbage_is_not_answered() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let inner = inner(cluster, vec![closed]);
        let reply = ask(&inner, "example.org.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!(inner.answer(b"garbage", IpAddr::from([10, 0, 0, 9]), false).await.is_none());
        assert!(inner.answer(&[], IpAddr::from([10, 0, 0, 9]), false).await.is_none());
    }

    #[tokio::test]
    async fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
        let many = |_: &Question<'_>| {
            Answer::Records((0..200).map(|n| Record::Address(IpAddr::from([10, 0, 1, n]))).collect())
        };
        let inner = inner(many, vec![]);
        let query = question("many.", RecordType::A);
        let from = IpAddr::from([10, 0, 0, 9]);
        let short = Message::from_vec(&inner.answer(&query, from, false).await.unwrap()).unwrap();
        assert!(short.metadata.truncation);
        let long = Message::from_vec(&inner.answer(&query, from, true).await.unwrap()).unwrap();
        assert_eq!(long.answers.len(), 200);
    }

    #[test]
    fn servers_are_read_from_resolv_conf() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch x\nnameserver fd00::1\nnameserver nonsense\n";
        assert_eq!(nameservers(text), ["127.0.0.53".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    }
}
