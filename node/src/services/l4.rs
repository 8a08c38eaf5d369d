//! Connections to the address of a Service go to one of its pods.
//!
//! Each port of each Service has a socket on the Service's own address (which the sandbox's network makes an address of this
//! host), and on the loopback address for node ports. No endpoint: the client waits a moment, then is told no.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::table::{Protocol, ServiceKey, ServiceView, Table};

/// How long a connection waits for an endpoint.
const WAIT: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(1);
/// After this long without a datagram a client is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(60);
const UDP_CLIENTS: usize = 1024;
const CONNECTIONS: usize = 4096;
const BIND_AGAIN: Duration = Duration::from_millis(500);

/// One socket that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    pub address: SocketAddr,
    pub protocol: Protocol,
}

/// Which sockets a table asks for, each with its Service and the name of its port.
pub fn sockets(services: &BTreeMap<ServiceKey, Arc<ServiceView>>) -> BTreeMap<Socket, (ServiceKey, String)> {
    let mut wanted = BTreeMap::new();
    for (key, view) in services {
        for port in &view.ports {
            let on_node = port.node_port.map(|node| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), node));
            let own = view.cluster_ip.map(|ip| SocketAddr::new(ip, port.number));
            for address in own.into_iter().chain(on_node) {
                let socket = Socket { address, protocol: port.protocol };
                wanted.entry(socket).or_insert_with(|| (key.clone(), port.name.clone()));
            }
        }
    }
    wanted
}

/// Opens and closes sockets as Services come and go.
pub struct Proxies {
    table: Arc<Table>,
}

impl Proxies {
    pub fn new(table: Arc<Table>) -> Self {
        Self { table }
    }

    /// Runs until `stop`, and then lets no connection live on.
    pub async fn run(&self, stop: CancellationToken) {
        let mut changes = self.table.changes();
        let mut open: HashMap<Socket, ((ServiceKey, String), CancellationToken)> = HashMap::new();
        let mut tasks: JoinSet<()> = JoinSet::new();
        loop {
            changes.borrow_and_update();
            let wanted = sockets(&self.table.all());
            open.retain(|socket, (for_whom, close)| {
                let keep = wanted.get(socket) == Some(for_whom);
                if !keep {
                    close.cancel();
                }
                keep
            });
            for (socket, for_whom) in wanted {
                if open.contains_key(&socket) {
                    continue;
                }
                let close = stop.child_token();
                let end =
                    Arc::new(End { table: self.table.clone(), key: for_whom.0.clone(), port: for_whom.1.clone() });
                tasks.spawn(serve(socket.clone(), end, close.clone(), stop.clone()));
                open.insert(socket, (for_whom, close));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// What is behind one socket.
struct End {
    table: Arc<Table>,
    key: ServiceKey,
    port: String,
}

impl End {
    /// An address that was not tried; waits for one when there is none.
    async fn pick(&self, client: IpAddr, tried: &mut Vec<SocketAddr>) -> Option<SocketAddr> {
        let mut changes = self.table.changes();
        let found = async {
            loop {
                changes.borrow_and_update();
                let view = self.table.get(&self.key)?;
                let picked = match view.sticky {
                    true => self.table.pick_for(&view, &self.port, client, tried),
                    false => self.table.pick(&self.key, &self.port, tried).map(|(address, _)| address),
                };
                if picked.is_some() {
                    return picked;
                }
                if !tried.is_empty() {
                    // All were tried: after a moment the first may be tried again.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    tried.clear();
                } else if changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(WAIT, found).await.ok().flatten()
    }
}

async fn serve(socket: Socket, end: Arc<End>, close: CancellationToken, stop: CancellationToken) {
    let mut said = false;
    loop {
        let outcome = match socket.protocol {
            Protocol::Tcp => match listen(socket.address) {
                Ok(listener) => accept(listener, &end, &close, &stop).await,
                Err(error) => Err(error),
            },
            Protocol::Udp => match UdpSocket::bind(socket.address).await {
                Ok(bound) => datagrams(bound, &end, &close).await,
                Err(error) => Err(error),
            },
        };
        if close.is_cancelled() {
            return;
        }
        if let Err(error) = outcome
            && !said
        {
            said = true;
            let (address, service) = (socket.address, &end.key.name);
            tracing::warn!(%address, service, %error, "the socket of a Service cannot be opened; trying again");
        }
        tokio::select! {
            () = close.cancelled() => return,
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Connections outlive the socket that took them, but not the node.
async fn accept(
    listener: TcpListener,
    end: &Arc<End>,
    close: &CancellationToken,
    stop: &CancellationToken,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections: JoinSet<()> = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = close.cancelled() => break,
            accepted = async {
                // Never closed, so it always gives one.
                let room = room.clone().acquire_owned().await;
                listener.accept().await.map(|accepted| (accepted, room))
            } => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let ((client, from), room) = match accepted {
            Ok(accepted) => accepted,
            // Out of descriptors, or the client went away: neither closes the socket.
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (end, stop) = (end.clone(), stop.clone());
        connections.spawn(async move {
            let _room = room;
            stop.run_until_cancelled(carry(client, from, &end)).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn carry(mut client: TcpStream, from: SocketAddr, end: &End) {
    let _ = client.set_nodelay(true);
    let mut tried = Vec::new();
    let deadline = tokio::time::Instant::now() + WAIT;
    let mut server = loop {
        let Some(address) = end.pick(from.ip(), &mut tried).await else { return refuse(client) };
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(server)) => break server,
            _ => {
                end.table.load.suspect(address);
                tried.push(address);
            }
        }
        if tokio::time::Instant::now() >= deadline {
            return refuse(client);
        }
    };
    let _ = server.set_nodelay(true);
    // How a connection ends is the business of its two ends.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// Closes with a reset, so that the client sees a failure rather than an empty answer.
fn refuse(client: TcpStream) {
    let _ = client.set_zero_linger();
}

async fn datagrams(socket: UdpSocket, end: &Arc<End>, close: &CancellationToken) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        tokio::select! {
            () = close.cancelled() => return Ok(()),
            Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(client) = done {
                    clients.remove(&client);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                // An ICMP error of an earlier answer shows up here; the socket is fine.
                let Ok((length, from)) = received else { continue };
                let datagram = buffer[..length].to_vec();
                let known = clients.get(&from).filter(|client| !client.is_closed());
                let sender = match known {
                    Some(sender) => sender.clone(),
                    None if clients.len() >= UDP_CLIENTS => continue,
                    None => {
                        let (send, receive) = mpsc::channel(64);
                        tasks.spawn(relay(socket.clone(), from, receive, end.clone()));
                        clients.insert(from, send.clone());
                        send
                    }
                };
                // Full means that the pod is slow: datagrams may be lost.
                let _ = sender.try_send(datagram);
            }
        }
    }
}

/// One client's datagrams, to and fro, until it falls silent.
async fn relay(
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    mut receive: mpsc::Receiver<Vec<u8>>,
    end: Arc<End>,
) -> SocketAddr {
    let work = async {
        let address = end.pick(client.ip(), &mut Vec::new()).await?;
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let inside = UdpSocket::bind((any, 0)).await.ok()?;
        inside.connect(address).await.ok()?;
        let mut buffer = vec![0; 65_536];
        loop {
            let step = async {
                tokio::select! {
                    datagram = receive.recv() => {
                        inside.send(&datagram?).await.ok()?;
                    }
                    received = inside.recv(&mut buffer) => {
                        outside.send_to(&buffer[..received.ok()?], client).await.ok()?;
                    }
                }
                Some(())
            };
            tokio::time::timeout(UDP_IDLE, step).await.ok()??;
        }
    };
    let _: Option<()> = work.await;
    client
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::table::Port;
    use super::super::table::tests::{key, serving};
    use super::*;

    /// A server that answers every connection with its name and what it was sent.
    async fn echo(name: &'static str) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    let Ok(n) = stream.read(&mut buffer).await else { return };
                    let _ =
                        stream.write_all(format!("{name} {}", String::from_utf8_lossy(&buffer[..n])).as_bytes()).await;
                });
            }
        });
        (address, task)
    }

    async fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    fn on(view: ServiceView, port: u16, protocol: Protocol) -> ServiceView {
        let ports = vec![Port { name: String::new(), number: port, protocol, node_port: None, application: None }];
        ServiceView { cluster_ip: Some(Ipv4Addr::LOCALHOST.into()), ports, ..view }
    }

    async fn ask(port: u16) -> io::Result<String> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
                done => break done?,
            }
        };
        stream.write_all(b"hi").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn connections_are_spread_over_endpoints_and_dead_ones_are_passed_over() {
        let table = Arc::new(Table::default());
        let stop = CancellationToken::new();
        let (own, proxies) = (stop.clone(), Proxies::new(table.clone()));
        let running = tokio::spawn(async move { proxies.run(own).await });
        let (one, first) = echo("one").await;
        let (two, _second) = echo("two").await;
        let port = free_port().await;
        table.set(key(), Some(on(serving(&[one, two]), port, Protocol::Tcp)));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..8 {
            seen.insert(ask(port).await.unwrap());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one hi", "two hi"]);
        first.abort();
        let _ = first.await;
        for _ in 0..8 {
            assert_eq!(ask(port).await.unwrap(), "two hi", "the dead one is still in the table");
        }
        table.set(key(), None);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_waits_for_the_first_endpoint() {
        let table = Arc::new(Table::default());
        let stop = CancellationToken::new();
        let (own, proxies) = (stop.clone(), Proxies::new(table.clone()));
        let running = tokio::spawn(async move { proxies.run(own).await });
        let port = free_port().await;
        table.set(key(), Some(on(serving(&[]), port, Protocol::Tcp)));
        let asking = tokio::spawn(ask(port));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (one, _server) = echo("one").await;
        table.set(key(), Some(on(serving(&[one]), port, Protocol::Tcp)));
        assert_eq!(asking.await.unwrap().unwrap(), "one hi");
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn datagrams_go_there_and_back() {
        let table = Arc::new(Table::default());
        let stop = CancellationToken::new();
        let (own, proxies) = (stop.clone(), Proxies::new(table.clone()));
        let running = tokio::spawn(async move { proxies.run(own).await });
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            loop {
                let (n, from) = server.recv_from(&mut buffer).await.unwrap();
                server.send_to(&buffer[..n], from).await.unwrap();
            }
        });
        let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        table.set(key(), Some(on(serving(&[address]), port, Protocol::Udp)));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(("127.0.0.1", port)).await.unwrap();
        let mut buffer = [0; 64];
        let answer = async {
            loop {
                let _ = client.send(b"hi").await;
                if let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(100), client.recv(&mut buffer)).await {
                    return n;
                }
            }
        };
        let n = tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap();
        assert_eq!(&buffer[..n], b"hi");
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn sockets_follow_from_services() {
        let mut view = on(serving(&[]), 80, Protocol::Tcp);
        view.cluster_ip = Some([10, 96, 0, 7].into());
        view.ports[0].node_port = Some(30_080);
        let headless = ServiceView { cluster_ip: None, ..serving(&[]) };
        let services = [(key(), Arc::new(view)), (ServiceKey::new("shop", "none"), Arc::new(headless))].into();
        let addresses: Vec<String> = sockets(&services).keys().map(|socket| socket.address.to_string()).collect();
        assert_eq!(addresses, ["10.96.0.7:80", "127.0.0.1:30080"]);
    }
}
