//! What pods reach, and what answers their names.

mod support;

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sandbox::{Answer, Lifetime, NetNs, NetworkMode, Question, Record, RecordKind};
use support::with;

/// Runs something in a network namespace, on a thread of its own.
async fn inside<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(path).unwrap();
    tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
        .join()
        .unwrap()
    })
    .await
    .unwrap()
}

/// Answers every connection with the address that it comes from.
fn serve(listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    });
}

fn ask(address: impl Into<SocketAddr>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.into(), Duration::from_secs(5))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Segments that TCP had to send more than once in this network namespace.
fn sent_again() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut tcp = counts.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

async fn pod(f: &support::Fixture, name: &str) -> NetNs {
    f.sandbox.network().await.unwrap().create(name, Lifetime::Server).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_reach_each_other_the_host_and_services() {
    with(true, |f| async move {
        let network = f.sandbox.network().await.unwrap();
        let (one, two) = (pod(&f, "one").await, pod(&f, "two").await);
        // The leak check sees what is there.
        let there = sandbox::leftovers(&f.root, "test");
        for what in ["link sw", "link sv", "nftables table", "mount ", "directory "] {
            assert!(there.iter().any(|l| l.starts_with(what)), "{what} in {there:?}");
        }
        assert_ne!(one.ip(), two.ip());
        assert!(network.pods().contains(one.ip()) && network.list() == ["one", "two"]);
        let at = SocketAddr::from((one.ip(), 80));
        inside(one.path(), move || serve(TcpListener::bind(at).unwrap())).await;
        assert_eq!(inside(two.path(), move || ask(at)).await.unwrap(), two.ip().to_string());
        assert_eq!(inside(two.path(), sent_again).await, 0, "a packet was lost on the way");
        // From the host to a pod.
        assert_eq!(tokio::task::spawn_blocking(move || ask(at)).await.unwrap().unwrap(), network.gateway().to_string());
        // From a pod, and from the host, to an address for services.
        let service = SocketAddr::from((network.services().nth(10).unwrap(), 8080));
        serve(TcpListener::bind(service).unwrap());
        assert_eq!(inside(two.path(), move || ask(service)).await.unwrap(), two.ip().to_string());
        assert_eq!(tokio::task::spawn_blocking(move || ask(service)).await.unwrap().unwrap(), service.ip().to_string());
        // Its own loopback is up.
        let own = inside(two.path(), move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let at = listener.local_addr().unwrap();
            serve(listener);
            ask(at)
        });
        assert_eq!(own.await.unwrap(), "127.0.0.1");
        let error = network.create("one", Lifetime::Server).await.unwrap_err();
        assert!(matches!(error, sandbox::Error::Exists { .. }), "{error}");
        let ip = one.ip();
        one.remove().await.unwrap();
        assert!(tokio::task::spawn_blocking(move || ask((ip, 80))).await.unwrap().is_err());
        assert_eq!(network.list(), ["two"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_without_network_has_its_loopback_alone() {
    with(true, |f| async move {
        let script = "tail -n +2 /proc/net/route | wc -l; cat /sys/class/net/lo/flags; ls /sys/class/net | tr '\\n' ' '; cat /etc/resolv.conf | wc -l";
        let said = f.run(f.shell("none", script)).await;
        assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["0", "0x9", "lo", "0"], "{said:?}");
        let netns = pod(&f, "bridge").await;
        let mut spec = f.shell("bridge", "ls /sys/class/net | tr '\\n' ' '; cat /etc/resolv.conf /etc/hosts; cat /proc/net/route | wc -l");
        spec.network = NetworkMode::Join(netns.clone());
        spec.dns.search = vec!["default.svc.cluster.local".into()];
        spec.dns.hosts = vec![(IpAddr::from([192, 0, 2, 9]), vec!["alias".into()])];
        let said = f.run(spec).await;
        for text in [
            "eth0 lo".to_owned(),
            format!("nameserver {}\nsearch default.svc.cluster.local\n", netns.gateway()),
            format!("{}\tbridge\n", netns.ip()),
            "192.0.2.9\talias\n".into(),
        ] {
            assert!(said.out.contains(&text), "{text:?} in {said:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_a_pod_share_its_network_and_keep_it_alive() {
    with(true, |f| async move {
        let netns = pod(&f, "pod").await;
        let (ip, path) = (netns.ip(), netns.path().to_path_buf());
        let mut spec = f.shell("first", "sleep 1000");
        spec.network = NetworkMode::Join(netns.clone());
        let first = f.sandbox.start(spec).await.unwrap();
        let links = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let mut spec = f.shell("second", "sleep 1000");
        spec.network = NetworkMode::Join(netns);
        let second = f.sandbox.start(spec).await.unwrap();
        assert_eq!(links(first.pid()), links(second.pid()));
        first.remove().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        inside(&path, move || serve(TcpListener::bind((ip, 90)).unwrap())).await;
        assert!(tokio::task::spawn_blocking(move || ask((ip, 90))).await.unwrap().is_ok());
        second.remove().await.unwrap();
        for _ in 0..6000 {
            if f.sandbox.network().await.unwrap().list().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the network namespace stays");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_answered_to_programs() {
    with(true, |f| async move {
        f.sandbox.network().await.unwrap().set_resolver(Arc::new(|question: &Question<'_>| {
            match (question.name, question.kind) {
                ("web.default.svc.cluster.local", RecordKind::A) => {
                    Answer::Records(vec![Record::Address(IpAddr::from([10, 1, 2, 3]))])
                }
                ("web.default.svc.cluster.local", _) => Answer::Records(vec![]),
                (name, _) if name.ends_with(".cluster.local") => Answer::NoSuchName,
                _ => Answer::NotMine,
            }
        }));
        let netns = pod(&f, "dns").await;
        let mut spec = f.shell(
            "dns",
            "getent ahostsv4 web; getent ahostsv4 web.default.svc.cluster.local; getent ahostsv4 other || echo none",
        );
        spec.network = NetworkMode::Join(netns);
        spec.dns.search = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"].map(Into::into).to_vec();
        // Whoever hears nothing asks again after that many seconds.
        spec.dns.options = vec!["ndots:5".into(), "timeout:30".into()];
        let begin = tokio::time::Instant::now();
        let said = f.run(spec).await;
        assert!(begin.elapsed() < Duration::from_secs(30), "a packet was lost on the way");
        assert_eq!(said.out.matches("10.1.2.3").count(), 6, "{said:?}");
        assert!(said.out.ends_with("none\n"), "{said:?}");
    })
    .await;
}

/// A network namespace that is joined to the host by a pair of links, as another machine would be by a cable.
struct Outside {
    path: PathBuf,
    address: Ipv4Addr,
    link: String,
}

impl Outside {
    async fn new(directory: &Path) -> Self {
        use rtnetlink::{LinkUnspec, LinkVeth};
        let number = std::process::id() % 250 + 1;
        let (link, address) = (format!("out{}", std::process::id()), Ipv4Addr::new(198, 18, number as u8, 2));
        let path = directory.join("outside");
        File::create(&path).unwrap();
        let at = path.clone();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let flags = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some("/proc/thread-self/ns/net"), &at, None::<&str>, flags, None::<&str>).unwrap();
        })
        .join()
        .unwrap();
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        handle.link().add(LinkVeth::new(&link, "cable0").build()).execute().await.unwrap();
        let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
        let netns = File::open(&path).unwrap();
        use std::os::fd::AsRawFd;
        let move_it = LinkUnspec::new_with_index(index("cable0")).setns_by_fd(netns.as_raw_fd()).build();
        handle.link().set(move_it).execute().await.unwrap();
        let ours = Ipv4Addr::new(198, 18, number as u8, 1);
        handle.address().add(index(&link), ours.into(), 24).execute().await.unwrap();
        handle.link().set(LinkUnspec::new_with_index(index(&link)).up().build()).execute().await.unwrap();
        inside(&path, move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
                handle.address().add(index("cable0"), address.into(), 24).execute().await.unwrap();
                handle.link().set(LinkUnspec::new_with_index(index("cable0")).up().build()).execute().await.unwrap();
            });
        })
        .await;
        Self { path, address, link }
    }

    async fn remove(self) {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let index = nix::net::if_::if_nametoindex(self.link.as_str()).unwrap();
        handle.link().del(index).execute().await.unwrap();
        nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH).unwrap();
        std::fs::remove_file(&self.path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_machines_see_the_host_not_the_pod() {
    with(true, |f| async move {
        let outside = Outside::new(&f.root).await;
        let at = SocketAddr::from((outside.address, 80));
        inside(&outside.path, move || serve(TcpListener::bind(at).unwrap())).await;
        let netns = pod(&f, "nat").await;
        let seen = inside(netns.path(), move || ask(at)).await.map_err(|e| e.to_string());
        let octets = outside.address.octets();
        let host = Ipv4Addr::new(octets[0], octets[1], octets[2], 1);
        outside.remove().await;
        // That machine knows no way to pods: without masquerading it could not have answered.
        assert_eq!(seen, Ok(host.to_string()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_given_out_in_turn_until_none_is_free() {
    with(true, |f| async move {
        let network = f.sandbox.network().await.unwrap();
        let first = pod(&f, "first").await;
        let ip = first.ip();
        first.remove().await.unwrap();
        let second = pod(&f, "second").await;
        assert_ne!(second.ip(), ip, "an address is not used again at once");
        assert!(network.create("../x", Lifetime::Server).await.is_err());
    })
    .await;
}
