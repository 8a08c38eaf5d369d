//! The three files in `/etc` that a container gets from its surroundings.

use std::net::IpAddr;

use crate::Dns;

pub(crate) fn hosts(hostname: &str, ip: Option<IpAddr>, more: &[(IpAddr, Vec<String>)]) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let own = ip.unwrap_or(IpAddr::from([127, 0, 1, 1]));
    text += &format!("{own}\t{hostname}\n");
    for (ip, names) in more {
        text += &format!("{ip}\t{}\n", names.join(" "));
    }
    text
}

/// `server`: that of the container's network, if it has one.
pub(crate) fn resolv_conf(server: Option<IpAddr>, dns: &Dns) -> String {
    let mut text = String::new();
    let own = (dns.servers.is_empty()).then_some(server).flatten();
    for server in own.iter().chain(&dns.servers) {
        text += &format!("nameserver {server}\n");
    }
    if !dns.search.is_empty() {
        text += &format!("search {}\n", dns.search.join(" "));
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

/// Names that would break the line they stand in.
pub(crate) fn check(hostname: &str, dns: &Dns) -> Result<(), String> {
    let words = dns.search.iter().chain(&dns.options).chain(dns.hosts.iter().flat_map(|(_, names)| names));
    match words.into_iter().find(|w| w.is_empty() || w.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#'))
    {
        Some(word) => Err(format!("`{}` is no name for /etc/hosts or /etc/resolv.conf", word.escape_debug())),
        None if hostname.is_empty()
            || hostname.len() > 64
            || !hostname.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) =>
        {
            Err(format!("`{}` is no hostname: use 1 to 64 letters, digits, dots, dashes", hostname.escape_debug()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_was_asked_for() {
        let dns = Dns {
            search: vec!["a.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
            ..Dns::default()
        };
        let server = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(
            resolv_conf(Some(server), &dns),
            "nameserver 10.0.0.1\nsearch a.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
        );
        let other = Dns { servers: vec![IpAddr::from([9, 9, 9, 9])], ..Dns::default() };
        assert_eq!(resolv_conf(Some(server), &other), "nameserver 9.9.9.9\n");
        let text = hosts("web", Some(IpAddr::from([10, 0, 0, 7])), &[(server, vec!["gw".into(), "g".into()])]);
        assert!(text.contains("10.0.0.7\tweb\n") && text.ends_with("10.0.0.1\tgw g\n"));
    }

    #[test]
    fn names_cannot_smuggle_lines() {
        assert!(check("web-1", &Dns::default()).is_ok());
        assert!(check("a\nb", &Dns::default()).is_err());
        assert!(check("", &Dns::default()).is_err());
        assert!(check("a", &Dns { search: vec!["x\nnameserver 6.6.6.6".into()], ..Dns::default() }).is_err());
    }
}
