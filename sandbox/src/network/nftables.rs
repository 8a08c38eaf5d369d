//! One nftables table of our own, written as netlink messages (no `nft` needed): masquerading of what pods send beyond the
//! bridge, and an explicit "accept" for what is forwarded from and to them.

use std::io;

use super::netlink::Netlink;
use crate::Subnet;

// linux/netfilter/nfnetlink.h, nf_tables.h
pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
pub(super) const NEW_RULE: u16 = 6;
pub(super) const FAMILY_IPV4: u8 = 2;
pub(super) const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
pub(super) const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
pub(super) const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
pub(super) const NESTED: u16 = 0x8000;
const REGISTER: u32 = 1;
pub(super) const META_IN: u32 = 6;
pub(super) const META_OUT: u32 = 7;
pub(super) const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
pub(super) const ACCEPT: u32 = 1;

/// Puts the table in place of whatever has its name, at once.
pub(super) fn install(table: &str, bridge: &str, pods: Subnet) -> io::Result<()> {
    let mut netlink = Netlink::netfilter()?;
    let mut batch = Batch::begin(&mut netlink);
    let name = |a: &mut Attributes| a.string(1, table);
    // Making it before deleting it makes deleting always possible.
    batch.message(NEW_TABLE, CREATE, name);
    batch.message(DELETE_TABLE, 0, name);
    batch.message(NEW_TABLE, CREATE, name);
    batch.chain(table, "postrouting", "nat", HOOK_POSTROUTING, 100);
    batch.chain(table, "forward", "filter", HOOK_FORWARD, 0);
    batch.rule(table, "postrouting", |rule| {
        rule.source_in(pods);
        rule.link(META_OUT, NOT_EQUAL, bridge);
        rule.expression("masq", |_| {});
    });
    for direction in [META_IN, META_OUT] {
        batch.rule(table, "forward", |rule| {
            rule.link(direction, EQUAL, bridge);
            rule.accept();
        });
    }
    batch.send()
}

/// Fine when it is not there.
pub(super) fn remove(table: &str) -> io::Result<()> {
    let mut netlink = Netlink::netfilter()?;
    let mut batch = Batch::begin(&mut netlink);
    batch.message(DELETE_TABLE, 0, |a| a.string(1, table));
    match batch.send() {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

pub(super) fn exists(table: &str) -> io::Result<bool> {
    let mut netlink = Netlink::netfilter()?;
    let sequence = netlink.next_sequence();
    let mut bytes = Vec::new();
    message(&mut bytes, SUBSYSTEM << 8 | GET_TABLE, REQUEST | ACKNOWLEDGE, sequence, FAMILY_IPV4, 0, |a| {
        a.string(1, table)
    });
    match netlink.send_raw(&bytes, &[sequence]) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes that happen all or not at all.
pub(super) struct Batch<'a> {
    netlink: &'a mut Netlink,
    bytes: Vec<u8>,
    sequences: Vec<u32>,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(netlink: &'a mut Netlink) -> Self {
        let mut bytes = Vec::with_capacity(1024);
        let sequence = netlink.next_sequence();
        message(&mut bytes, BATCH_BEGIN, REQUEST, sequence, 0, SUBSYSTEM, |_| {});
        Self { netlink, bytes, sequences: Vec::new() }
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.message_of(FAMILY_IPV4, kind, flags, fill);
    }

    pub(super) fn message_of(&mut self, family: u8, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let sequence = self.netlink.next_sequence();
        let flags = REQUEST | ACKNOWLEDGE | flags;
        message(&mut self.bytes, SUBSYSTEM << 8 | kind, flags, sequence, family, 0, fill);
        self.sequences.push(sequence);
    }

    fn chain(&mut self, table: &str, name: &str, kind: &str, hook: u32, priority: i32) {
        self.chain_with(table, name, kind, hook, priority, ACCEPT);
    }

    pub(super) fn chain_with(&mut self, table: &str, name: &str, kind: &str, hook: u32, priority: i32, policy: u32) {
        self.message(NEW_CHAIN, CREATE, |a| {
            a.string(1, table);
            a.string(3, name);
            a.nested(4, |a| {
                a.number(1, hook);
                a.number(2, priority as u32);
            });
            a.number(5, policy);
            a.string(7, kind);
        });
    }

    fn rule(&mut self, table: &str, chain: &str, fill: impl FnOnce(&mut Rule<'_, '_>)) {
        self.message(NEW_RULE, CREATE | APPEND, |a| {
            a.string(1, table);
            a.string(2, chain);
            a.nested(4, |a| fill(&mut Rule(a)));
        });
    }

    pub(super) fn send(mut self) -> io::Result<()> {
        let sequence = self.netlink.next_sequence();
        message(&mut self.bytes, BATCH_END, REQUEST, sequence, 0, SUBSYSTEM, |_| {});
        self.netlink.send_raw(&self.bytes, &self.sequences)
    }
}

/// The expressions of a rule, one after the other; a comparison that fails ends it.
pub(super) struct Rule<'a, 'b>(pub(super) &'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nested(1, |a| {
            a.string(1, name);
            a.nested(2, fill);
        });
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.expression("cmp", |a| {
            a.number(1, REGISTER);
            a.number(2, operator);
            a.nested(3, |a| a.bytes(1, value));
        });
    }

    /// The link that a packet came in or goes out by.
    pub(super) fn link(&mut self, direction: u32, operator: u32, name: &str) {
        self.expression("meta", |a| {
            a.number(1, REGISTER);
            a.number(2, direction);
        });
        // Names are compared as the kernel holds them: 16 bytes, zero at the end.
        let mut padded = [0; 16];
        for (to, from) in padded.iter_mut().zip(name.as_bytes()) {
            *to = *from;
        }
        self.compare(operator, &padded);
    }

    fn source_in(&mut self, block: Subnet) {
        self.expression("payload", |a| {
            a.number(1, REGISTER);
            // The network header; the source address lies 12 bytes into it.
            a.number(2, 1);
            a.number(3, 12);
            a.number(4, 4);
        });
        self.expression("bitwise", |a| {
            a.number(1, REGISTER);
            a.number(2, REGISTER);
            a.number(3, 4);
            a.nested(4, |a| a.bytes(1, &Subnet::mask(block.prefix).to_be_bytes()));
            a.nested(5, |a| a.bytes(1, &[0; 4]));
        });
        self.compare(EQUAL, &block.address.octets());
    }

    pub(super) fn accept(&mut self) {
        self.expression("immediate", |a| {
            // The register of the verdict.
            a.number(1, 0);
            a.nested(2, |a| a.nested(2, |a| a.number(1, ACCEPT)));
        });
    }
}

pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn string(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }
}

pub(super) fn message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    fill: impl FnOnce(&mut Attributes<'_>),
) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.push(family);
    bytes.push(0);
    bytes.extend_from_slice(&resource.to_be_bytes());
    fill(&mut Attributes(bytes));
    let length = (bytes.len() - start) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_with_their_length() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes).nested(4, |a| a.string(1, "ab"));
        assert_eq!(bytes.len(), 12);
        assert_eq!(u16::from_ne_bytes([bytes[0], bytes[1]]), 12);
        assert_eq!(u16::from_ne_bytes([bytes[2], bytes[3]]), 4 | NESTED);
        assert_eq!(u16::from_ne_bytes([bytes[4], bytes[5]]), 7, "length without padding");
        assert_eq!(&bytes[8..], b"ab\0\0");
    }
}
