//! The names of the cluster, answered from memory: `<service>.<namespace>.svc.<domain>` and what lies below and beside it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::controllers::endpoints::plan::Target;
use crate::services::table::{Port, Protocol, ServiceKey, ServiceView, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
    Ptr,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Address(IpAddr),
    /// `SRV`
    Service {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
    /// `PTR`
    Pointer(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records of the kind that was asked for; empty when the name exists without such.
    Records(Vec<Record>),
    /// The name stands for one outside the cluster (`CNAME`), which whoever asks resolves.
    Alias(String),
    /// The name would be the cluster's, and there is no such.
    NoSuchName,
    /// Not a name of the cluster.
    NotMine,
}

/// Answers names from the table of Services. Cheap to clone.
#[derive(Clone)]
pub struct Names {
    table: Arc<Table>,
    domain: String,
}

impl Names {
    /// `domain` as in `cluster.local`.
    pub fn new(table: Arc<Table>, domain: &str) -> Self {
        Self { table, domain: domain.trim_end_matches('.').to_ascii_lowercase() }
    }

    /// `name` in lower or upper case, with or without the dot at its end.
    pub fn lookup(&self, name: &str, kind: Kind) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(reverse) = name.strip_suffix(".in-addr.arpa") {
            return self.reverse(reverse, kind);
        }
        if name == self.domain {
            return Answer::Records(Vec::new());
        }
        let Some(rest) = name.strip_suffix(&self.domain).and_then(|rest| rest.strip_suffix('.')) else {
            return Answer::NotMine;
        };
        let labels: Vec<&str> = rest.split('.').collect();
        match labels.as_slice() {
            ["svc"] | ["pod"] => Answer::Records(Vec::new()),
            [.., "pod"] => pod(&labels, kind),
            ["dns-version"] => Answer::NoSuchName,
            [.., "svc"] => self.service(&labels[..labels.len() - 1], kind),
            _ => Answer::NoSuchName,
        }
    }

    /// The labels before `svc`.
    fn service(&self, labels: &[&str], kind: Kind) -> Answer {
        match labels {
            [namespace] => {
                let exists = self.table.all().keys().any(|key| key.namespace == *namespace);
                if exists { Answer::Records(Vec::new()) } else { Answer::NoSuchName }
            }
            [name, namespace] => {
                let Some(view) = self.table.get(&ServiceKey::new(namespace, name)) else { return Answer::NoSuchName };
                if let Some(outside) = &view.external_name {
                    return Answer::Alias(outside.trim_end_matches('.').to_owned());
                }
                match kind {
                    Kind::Srv => {
                        let all = view.ports.iter().flat_map(|port| self.services(&view, port, name, namespace));
                        Answer::Records(all.collect())
                    }
                    kind => addresses(service_addresses(&view), kind),
                }
            }
            [port, protocol, name, namespace] if port.starts_with('_') && protocol.starts_with('_') => {
                let Some(view) = self.table.get(&ServiceKey::new(namespace, name)) else { return Answer::NoSuchName };
                let wanted = match *protocol {
                    "_tcp" => Protocol::Tcp,
                    "_udp" => Protocol::Udp,
                    _ => return Answer::NoSuchName,
                };
                let found = view.ports.iter().find(|own| own.protocol == wanted && format!("_{}", own.name) == *port);
                match (found, kind) {
                    (None, _) => Answer::NoSuchName,
                    (Some(port), Kind::Srv) => Answer::Records(self.services(&view, port, name, namespace)),
                    (Some(_), _) => Answer::Records(Vec::new()),
                }
            }
            // One pod of a headless Service.
            [host, name, namespace] => {
                let Some(view) = self.table.get(&ServiceKey::new(namespace, name)) else { return Answer::NoSuchName };
                let own: Vec<IpAddr> = match is_headless(&view) {
                    true => view.targets.iter().filter(|t| t.ready && host_label(t) == *host).map(|t| t.ip).collect(),
                    false => Vec::new(),
                };
                if own.is_empty() { Answer::NoSuchName } else { addresses(own, kind) }
            }
            _ => Answer::NoSuchName,
        }
    }

    fn services(&self, view: &ServiceView, port: &Port, name: &str, namespace: &str) -> Vec<Record> {
        let own = format!("{name}.{namespace}.svc.{}", self.domain);
        if !is_headless(view) {
            return vec![Record::Service { priority: 0, weight: 100, port: port.number, target: own }];
        }
        let ready = view.targets.iter().filter(|target| target.ready);
        let records = ready.filter_map(|target| {
            let number = *target.ports.get(&port.name)?;
            Some(Record::Service {
                priority: 0,
                weight: 100,
                port: number,
                target: format!("{}.{own}", host_label(target)),
            })
        });
        records.collect()
    }

    /// `4.3.2.1` of `4.3.2.1.in-addr.arpa`
    fn reverse(&self, reverse: &str, kind: Kind) -> Answer {
        let mut parts: Vec<&str> = reverse.split('.').collect();
        parts.reverse();
        let Ok(ip) = parts.join(".").parse::<Ipv4Addr>().map(IpAddr::V4) else { return Answer::NotMine };
        for (key, view) in self.table.all() {
            let own = format!("{}.{}.svc.{}", key.name, key.namespace, self.domain);
            let name = if view.cluster_ip == Some(ip) {
                own
            } else {
                let Some(target) = view.pod_at(ip).filter(|_| is_headless(&view)) else { continue };
                format!("{}.{own}", host_label(target))
            };
            let records = if kind == Kind::Ptr { vec![Record::Pointer(name)] } else { Vec::new() };
            return Answer::Records(records);
        }
        Answer::NotMine
    }
}

fn is_headless(view: &ServiceView) -> bool {
    view.cluster_ip.is_none() && view.external_name.is_none()
}

fn service_addresses(view: &ServiceView) -> Vec<IpAddr> {
    match view.cluster_ip {
        Some(ip) => vec![ip],
        None => view.targets.iter().filter(|target| target.ready).map(|target| target.ip).collect(),
    }
}

/// The name of a pod below its headless Service: its host name there, else its address with dashes.
fn host_label(target: &Target) -> String {
    target.hostname.clone().unwrap_or_else(|| target.ip.to_string().replace(['.', ':'], "-"))
}

/// `10-1-2-3.<namespace>.pod`: the address is in the name.
fn pod(labels: &[&str], kind: Kind) -> Answer {
    let [address, _, "pod"] = labels else { return Answer::NoSuchName };
    match address.replace('-', ".").parse::<Ipv4Addr>() {
        Ok(ip) => addresses(vec![IpAddr::V4(ip)], kind),
        Err(_) => Answer::NoSuchName,
    }
}

fn addresses(all: Vec<IpAddr>, kind: Kind) -> Answer {
    let wanted = |ip: &IpAddr| match kind {
        Kind::A => ip.is_ipv4(),
        Kind::Aaaa => ip.is_ipv6(),
        _ => false,
    };
    let mut records: Vec<Record> = all.into_iter().filter(wanted).map(Record::Address).collect();
    records.dedup();
    Answer::Records(records)
}

/// The sandbox's name server asks here first. An alias is answered by asking outside for what it stands for, which only the
/// pod's own resolver can do; so the name server is told the alias where it can pass it on.
impl sandbox::Resolver for Names {
    fn resolve(&self, question: &sandbox::Question<'_>) -> sandbox::Answer {
        let kind = match question.kind {
            sandbox::RecordKind::A => Kind::A,
            sandbox::RecordKind::Aaaa => Kind::Aaaa,
            sandbox::RecordKind::Srv => Kind::Srv,
            sandbox::RecordKind::Ptr => Kind::Ptr,
            sandbox::RecordKind::Other(_) => Kind::Other,
        };
        match self.lookup(question.name, kind) {
            Answer::NotMine => sandbox::Answer::NotMine,
            Answer::NoSuchName => sandbox::Answer::NoSuchName,
            Answer::Alias(name) => sandbox::Answer::Alias(name),
            Answer::Records(records) => {
                let records = records.into_iter().map(|record| match record {
                    Record::Address(ip) => sandbox::Record::Address(ip),
                    Record::Service { priority, weight, port, target } => {
                        sandbox::Record::Service { priority, weight, port, target }
                    }
                    Record::Pointer(name) => sandbox::Record::Name(name),
                });
                sandbox::Answer::Records(records.collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::table::tests::serving;

    fn names() -> Names {
        let table = Arc::new(Table::default());
        let mut web = serving(&["10.0.0.1:8080".parse().unwrap()]);
        web.cluster_ip = Some([10, 96, 0, 7].into());
        web.ports[0].name = "http".into();
        table.set(ServiceKey::new("shop", "web"), Some(web));
        let mut db = serving(&["10.0.0.2:5432".parse().unwrap(), "10.0.0.3:5432".parse().unwrap()]);
        db.ports[0].name = "sql".into();
        for target in &mut db.targets {
            target.ports = [("sql".to_owned(), 5432)].into();
        }
        db.targets[0].hostname = Some("zero".into());
        let mut ill = db.targets[1].clone();
        ill.ip = [10, 0, 0, 4].into();
        ill.ready = false;
        db.targets.push(ill);
        table.set(ServiceKey::new("shop", "db"), Some(db));
        let outside = ServiceView { external_name: Some("api.example.org.".into()), ..ServiceView::default() };
        table.set(ServiceKey::new("shop", "pay"), Some(outside));
        Names::new(table, "cluster.local")
    }

    fn ips(answer: Answer) -> Vec<String> {
        let Answer::Records(records) = answer else { panic!("no records: {answer:?}") };
        let ip = |record| match record {
            Record::Address(ip) => ip.to_string(),
            Record::Service { port, target, .. } => format!("{target}:{port}"),
            Record::Pointer(name) => name,
        };
        records.into_iter().map(ip).collect()
    }

    #[test]
    fn services_pods_and_aliases_are_found() {
        let names = names();
        let cases: [(&str, Kind, &[&str]); 12] = [
            ("web.shop.svc.cluster.local", Kind::A, &["10.96.0.7"]),
            ("WEB.shop.SVC.cluster.local.", Kind::A, &["10.96.0.7"]),
            ("web.shop.svc.cluster.local", Kind::Aaaa, &[]),
            ("db.shop.svc.cluster.local", Kind::A, &["10.0.0.2", "10.0.0.3"]),
            ("zero.db.shop.svc.cluster.local", Kind::A, &["10.0.0.2"]),
            ("10-0-0-3.db.shop.svc.cluster.local", Kind::A, &["10.0.0.3"]),
            ("10-1-2-3.shop.pod.cluster.local", Kind::A, &["10.1.2.3"]),
            ("_http._tcp.web.shop.svc.cluster.local", Kind::Srv, &["web.shop.svc.cluster.local:80"]),
            (
                "_sql._tcp.db.shop.svc.cluster.local",
                Kind::Srv,
                &["zero.db.shop.svc.cluster.local:5432", "10-0-0-3.db.shop.svc.cluster.local:5432"],
            ),
            ("7.0.96.10.in-addr.arpa", Kind::Ptr, &["web.shop.svc.cluster.local"]),
            ("2.0.0.10.in-addr.arpa", Kind::Ptr, &["zero.db.shop.svc.cluster.local"]),
            ("shop.svc.cluster.local", Kind::A, &[]),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ips(names.lookup(name, kind)), expected, "{name} {kind:?}");
        }
        let alias = names.lookup("pay.shop.svc.cluster.local", Kind::A);
        assert_eq!(alias, Answer::Alias("api.example.org".into()));
    }

    #[test]
    fn names_of_the_cluster_that_are_not_there_are_not_asked_outside() {
        let names = names();
        for name in [
            "none.shop.svc.cluster.local",
            "web.none.svc.cluster.local",
            "one.web.shop.svc.cluster.local",
            "10-0-0-4.db.shop.svc.cluster.local",
            "_none._tcp.web.shop.svc.cluster.local",
            "_http._sctp.web.shop.svc.cluster.local",
            "x.cluster.local",
            "example.org.cluster.local",
            "a.b.c.d.e.svc.cluster.local",
            "nonsense.shop.pod.cluster.local",
        ] {
            assert_eq!(names.lookup(name, Kind::A), Answer::NoSuchName, "{name}");
        }
        for name in
            ["example.org", "web.shop", "cluster.local.example.org", "1.2.3.4.in-addr.arpa", "notcluster.local", ""]
        {
            assert_eq!(names.lookup(name, Kind::A), Answer::NotMine, "{name}");
        }
    }
}
