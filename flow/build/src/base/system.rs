//! What maintainer scripts would make of unpacked packages: accounts, certificates, links, and the list of packages.

use super::{
    assemble::CERTIFICATES,
    deb::Control,
    definition::Definition,
    tree::{Node, NodeKind, Tree},
};
use crate::{Error, Result};

/// Bytes of one certificate.
const MAX_CERTIFICATE: u64 = 1 << 20;

/// Lists a package where scanners look for it in images without `dpkg`.
pub fn register(tree: &mut Tree, name: &str, control: &Control) -> Result<()> {
    let paragraph = format!("{}\n", control.control.trim_end());
    tree.set(&format!("var/lib/dpkg/status.d/{name}"), Node::file(paragraph))?;
    if let Some(sums) = &control.md5sums {
        tree.set(&format!("var/lib/dpkg/status.d/{name}.md5sums"), Node::file(sums.as_str()))?;
    }
    Ok(())
}

/// A package must be the one that the index named.
pub fn check_control(control: &Control, name: &str, version: &str) -> Result<()> {
    let field = |wanted: &str| {
        let mut lines = control.control.lines();
        lines.find_map(|line| {
            line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.trim())
        })
    };
    let found = (field("Package").unwrap_or_default(), field("Version").unwrap_or_default());
    if found == (name, version) {
        return Ok(());
    }
    let reason = format!("says that it is {} {}", found.0, found.1);
    Err(Error::malformed(format!("package {name} {version}"), reason))
}

/// Adds what no package ships.
pub fn complete(tree: &mut Tree, definition: &Definition) -> Result<()> {
    directories(tree)?;
    accounts(tree, definition)?;
    certificates(tree)?;
    let shipped = |tree: &Tree, path: &str| tree.get(path).is_some();
    if !shipped(tree, "etc/nsswitch.conf") {
        let text = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";
        tree.set("etc/nsswitch.conf", Node::file(text))?;
    }
    if shipped(tree, "usr/share/zoneinfo/Etc/UTC") {
        tree.set("etc/localtime", Node::symlink("/usr/share/zoneinfo/Etc/UTC"))?;
        tree.set("etc/timezone", Node::file("Etc/UTC\n"))?;
    }
    if !shipped(tree, "etc/os-release") && shipped(tree, "usr/lib/os-release") {
        tree.set("etc/os-release", Node::symlink("../usr/lib/os-release"))?;
    }
    for file in &definition.files {
        let path = &file.path[1..];
        let mode = file.mode_bits()?;
        let node = match (&file.content, &file.link) {
            (Some(content), _) => Node::file(content.as_str()).with_mode(mode.unwrap_or(0o644)),
            (None, Some(target)) => Node::symlink(target),
            (None, None) => Node::directory(mode.unwrap_or(0o755)),
        };
        tree.set(path, node.owned(file.owner))?;
    }
    Ok(())
}

fn directories(tree: &mut Tree) -> Result<()> {
    for (path, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var/cache", 0o755),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("var/tmp", 0o1777),
    ] {
        tree.add(path, Node::directory(mode))?;
    }
    tree.add("var/run", Node::symlink("/run"))?;
    tree.add("var/lock", Node::symlink("/run/lock"))?;
    tree.add("bin", Node::directory(0o755))?;
    tree.add("sbin", Node::directory(0o755))?;
    tree.add("lib", Node::directory(0o755))?;
    Ok(())
}

fn accounts(tree: &mut Tree, definition: &Definition) -> Result<()> {
    let shell = if definition.shell { "/bin/sh" } else { "/usr/sbin/nologin" };
    let mut passwd = format!("root:x:0:0:root:/root:{shell}\n");
    let mut group = String::from("root:x:0:\ntty:x:5:\nmail:x:8:\nshadow:x:42:\nutmp:x:43:\nstaff:x:50:\n");
    for user in &definition.users {
        passwd += &format!("{}:x:{}:{}:{}:{}:{}\n", user.name, user.uid, user.uid, user.name, user.home, user.shell);
        group += &format!("{}:x:{}:\n", user.name, user.uid);
        let home = user.home.trim_matches('/');
        if !home.is_empty() {
            tree.set(home, Node::directory(0o750).owned(user.uid))?;
        }
    }
    passwd += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    group += "nogroup:x:65534:\n";
    tree.set("etc/passwd", Node::file(passwd))?;
    tree.set("etc/group", Node::file(group))?;
    let mut shadow = String::from("root:*:19000:0:99999:7:::\n");
    for user in &definition.users {
        shadow += &format!("{}:!:19000:0:99999:7:::\n", user.name);
    }
    shadow += "nobody:*:19000:0:99999:7:::\n";
    let mut node = Node::file(shadow).with_mode(0o640);
    node.gid = 42;
    tree.set("etc/shadow", node)
}

/// One file of all certificates that are installed, in the order of their names: what `update-ca-certificates` makes.
fn certificates(tree: &mut Tree) -> Result<()> {
    let mut bundle = Vec::new();
    let mut list = String::new();
    for (path, node) in tree.below("usr/share/ca-certificates") {
        let NodeKind::File(content) = &node.kind else { continue };
        if !path.ends_with(".crt") || content.size() > MAX_CERTIFICATE {
            continue;
        }
        bundle.extend(content.read().map_err(Error::io(format!("cannot read /{path}")))?);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        list += &path["usr/share/ca-certificates/".len()..];
        list.push('\n');
    }
    if bundle.is_empty() {
        return Ok(());
    }
    tree.set(CERTIFICATES.trim_start_matches('/'), Node::file(bundle))?;
    tree.set("etc/ca-certificates.conf", Node::file(list))?;
    // Where OpenSSL looks when no variable says otherwise.
    if tree.get("usr/lib/ssl").is_none() {
        tree.set("usr/lib/ssl/cert.pem", Node::symlink(CERTIFICATES))?;
        tree.set("usr/lib/ssl/certs", Node::symlink("/etc/ssl/certs"))?;
    }
    Ok(())
}
