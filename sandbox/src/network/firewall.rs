//! Other people's firewall. A packet must pass every chain of a hook, and Docker, for one, sets the policy of `FORWARD` to drop:
//! there our "accept" in a table of our own says nothing. So in every such chain two rules of ours go first, with our name as
//! their comment, by which they are found again.

use std::io;

use super::{
    netlink::Netlink,
    nftables::{
        Batch, CREATE, EQUAL, FAMILY_IPV4, HOOK_FORWARD, META_IN, META_OUT, NESTED, NEW_RULE, REQUEST, Rule, SUBSYSTEM,
        message,
    },
};

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const DUMP: u16 = 0x300;
/// Tables of `inet` see IPv4 and IPv6.
const FAMILY_INET: u8 = 1;
const POLICY_DROP: u32 = 0;

struct Chain {
    family: u8,
    table: String,
    name: String,
}

/// Lets what comes in and goes out by the bridge through. Rules of an earlier time are replaced.
pub(super) fn open(owner: &str, bridge: &str) -> io::Result<()> {
    close(owner)?;
    let mut netlink = Netlink::netfilter()?;
    let chains = dropping(&mut netlink)?;
    if chains.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::begin(&mut netlink);
    for chain in &chains {
        for direction in [META_IN, META_OUT] {
            batch.message_of(chain.family, NEW_RULE, CREATE, |a| {
                a.string(1, &chain.table);
                a.string(2, &chain.name);
                a.nested(4, |a| {
                    let mut rule = Rule(a);
                    rule.link(direction, EQUAL, bridge);
                    rule.accept();
                });
                a.bytes(7, &comment(owner));
            });
        }
    }
    batch.send()
}

/// Takes our rules out again.
pub(super) fn close(owner: &str) -> io::Result<()> {
    let mut netlink = Netlink::netfilter()?;
    let comment = comment(owner);
    let mut ours = Vec::new();
    for bytes in dump(&mut netlink, GET_RULE)? {
        let Some((family, attributes)) = parse(&bytes) else { continue };
        if find(&attributes, 7) == Some(&comment)
            && let (Some(table), Some(chain), Some(handle)) =
                (text(&attributes, 1), text(&attributes, 2), find(&attributes, 3))
        {
            ours.push((Chain { family, table, name: chain }, handle.to_vec()));
        }
    }
    if ours.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::begin(&mut netlink);
    for (chain, handle) in &ours {
        batch.message_of(chain.family, DELETE_RULE, 0, |a| {
            a.string(1, &chain.table);
            a.string(2, &chain.name);
            a.bytes(3, handle);
        });
    }
    batch.send()
}

/// Chains that drop what is forwarded and that nobody lets through.
fn dropping(netlink: &mut Netlink) -> io::Result<Vec<Chain>> {
    let mut found = Vec::new();
    for bytes in dump(netlink, GET_CHAIN)? {
        let Some((family, attributes)) = parse(&bytes) else { continue };
        let Some(hook) = find(&attributes, 4).map(attributes_of) else { continue };
        let forward = number(&hook, 1) == Some(HOOK_FORWARD);
        let drops = number(&attributes, 5) == Some(POLICY_DROP);
        if forward
            && drops
            && matches!(family, FAMILY_IPV4 | FAMILY_INET)
            && let (Some(table), Some(name)) = (text(&attributes, 1), text(&attributes, 3))
        {
            found.push(Chain { family, table, name });
        }
    }
    Ok(found)
}

fn dump(netlink: &mut Netlink, kind: u16) -> io::Result<Vec<Vec<u8>>> {
    let sequence = netlink.next_sequence();
    let mut bytes = Vec::new();
    message(&mut bytes, SUBSYSTEM << 8 | kind, REQUEST | DUMP, sequence, 0, 0, |_| {});
    netlink.dump_raw(&bytes, sequence)
}

/// As `nft` writes a rule's comment: kind 0, length, text with a zero at its end.
fn comment(owner: &str) -> Vec<u8> {
    let mut bytes = vec![0, (owner.len() + 1).min(255) as u8];
    bytes.extend_from_slice(owner.as_bytes());
    bytes.push(0);
    bytes
}

type Parsed<'a> = Vec<(u16, &'a [u8])>;

/// The family and the attributes of a message of nftables.
fn parse(bytes: &[u8]) -> Option<(u8, Parsed<'_>)> {
    Some((*bytes.first()?, attributes_of(bytes.get(4..)?)))
}

fn attributes_of(mut bytes: &[u8]) -> Parsed<'_> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = bytes {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = bytes.get(4..length) else { break };
        found.push((u16::from_ne_bytes([*c, *d]) & !NESTED, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn find<'a>(attributes: &Parsed<'a>, kind: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| *value)
}

fn text(attributes: &Parsed<'_>, kind: u16) -> Option<String> {
    let bytes = find(attributes, kind)?;
    String::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec()).ok()
}

fn number(attributes: &Parsed<'_>, kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(attributes, kind)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a network namespace of its own, on a thread that ends with it.
    fn alone(test: impl FnOnce() + Send + 'static) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            test();
        })
        .join()
        .unwrap();
    }

    fn rules() -> usize {
        dump(&mut Netlink::netfilter().unwrap(), GET_RULE).unwrap().len()
    }

    #[test]
    fn a_dropping_chain_gets_our_rules_and_loses_them_again() {
        alone(|| {
            let mut netlink = Netlink::netfilter().unwrap();
            let mut batch = Batch::begin(&mut netlink);
            batch.message_of(FAMILY_IPV4, 0, CREATE, |a| a.string(1, "filter"));
            batch.chain_with("filter", "FORWARD", "filter", HOOK_FORWARD, 0, POLICY_DROP);
            batch.chain_with("filter", "OTHER", "filter", HOOK_FORWARD, 1, 1);
            batch.chain_with("filter", "INPUT", "filter", 1, 0, POLICY_DROP);
            batch.send().unwrap();
            let chains = dropping(&mut Netlink::netfilter().unwrap()).unwrap();
            assert_eq!(chains.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["FORWARD"]);
            open("shipway_1", "sw1").unwrap();
            open("shipway_2", "sw2").unwrap();
            assert_eq!(rules(), 4);
            open("shipway_1", "sw1").unwrap();
            assert_eq!(rules(), 4, "again is not twice");
            close("shipway_1").unwrap();
            assert_eq!(rules(), 2);
            close("shipway_2").unwrap();
            assert_eq!(rules(), 0);
        });
    }

    #[test]
    fn a_host_without_firewall_is_left_alone() {
        alone(|| {
            open("shipway_1", "sw1").unwrap();
            assert_eq!(rules(), 0);
            close("shipway_1").unwrap();
        });
    }
}
