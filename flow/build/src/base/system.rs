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

/// Lists a package as `dpkg` itself does: its paragraph goes into `status`, its files into a list.
pub fn register_installed(
    tree: &mut Tree,
    status: &mut String,
    name: &str,
    control: &Control,
    paths: impl Iterator<Item = String>,
) -> Result<()> {
    let field = |wanted: &str| field(&control.control, wanted);
    let mut lines = control.control.trim_end().lines();
    if let Some(first) = lines.next() {
        *status += &format!("{first}\nStatus: install ok installed\n");
    }
    lines.for_each(|line| *status += &format!("{line}\n"));
    status.push('\n');
    // Packages that may be there for several architectures carry theirs in the name.
    let file = match (field("Multi-Arch"), field("Architecture")) {
        (Some("same"), Some(architecture)) => format!("{name}:{architecture}"),
        _ => name.to_owned(),
    };
    let mut list = String::from("/.\n");
    paths.for_each(|path| list += &format!("/{path}\n"));
    tree.set(&format!("var/lib/dpkg/info/{file}.list"), Node::file(list))?;
    if let Some(sums) = &control.md5sums {
        tree.set(&format!("var/lib/dpkg/info/{file}.md5sums"), Node::file(sums.as_str()))?;
    }
    Ok(())
}

/// What `apt` and `dpkg` need to go on from here.
pub fn package_manager(tree: &mut Tree, definition: &Definition, status: String) -> Result<()> {
    for path in ["dpkg/info", "dpkg/updates", "dpkg/triggers", "dpkg/alternatives", "apt/lists/partial"] {
        tree.add(&format!("var/lib/{path}"), Node::directory(0o755))?;
    }
    tree.add("var/cache/apt/archives/partial", Node::directory(0o755))?;
    tree.add("var/log/apt", Node::directory(0o755))?;
    tree.set("var/lib/dpkg/status", Node::file(status))?;
    tree.set("var/lib/dpkg/available", Node::file(""))?;
    let keys =
        ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"].map(|name| format!("usr/share/keyrings/{name}"));
    let Some(keys) = keys.iter().find(|path| tree.leads_to_file(path)) else { return Ok(()) };
    let suite = &definition.suite;
    let mut sources = String::new();
    for (address, suites) in [
        (super::archive::DEFAULT_MIRROR, format!("{suite} {suite}-updates")),
        (super::archive::DEFAULT_SECURITY_MIRROR, format!("{suite}-security")),
    ] {
        sources += &format!("Types: deb\nURIs: {address}\nSuites: {suites}\nComponents: main\nSigned-By: /{keys}\n\n");
    }
    tree.set("etc/apt/sources.list.d/debian.sources", Node::file(sources))
}

/// A field of a control paragraph.
fn field<'a>(paragraph: &'a str, wanted: &str) -> Option<&'a str> {
    let mut lines = paragraph.lines();
    lines.find_map(|line| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.trim()))
}

/// A package must be the one that the index named.
pub fn check_control(control: &Control, name: &str, version: &str) -> Result<()> {
    let named = |wanted: &str| field(&control.control, wanted).unwrap_or_default();
    let found = (named("Package"), named("Version"));
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
    certificates(tree, definition)?;
    let shipped = |tree: &Tree, path: &str| tree.get(path).is_some();
    if !shipped(tree, "etc/nsswitch.conf") {
        let text = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";
        tree.set("etc/nsswitch.conf", Node::file(text))?;
    }
    let zone = definition.timezone.as_deref().unwrap_or("Etc/UTC");
    if tree.leads_to_file(&format!("usr/share/zoneinfo/{zone}")) {
        tree.set("etc/localtime", Node::symlink(&format!("/usr/share/zoneinfo/{zone}")))?;
        tree.set("etc/timezone", Node::file(format!("{zone}\n")))?;
    } else if definition.timezone.is_some() {
        let zones: Vec<&str> =
            tree.below("usr/share/zoneinfo").map(|(path, _)| &path["usr/share/zoneinfo/".len()..]).collect();
        let near = crate::diagnostic::did_you_mean(zone, zones.iter().copied());
        let reason = format!(
            "there is no time zone `{zone}`{}",
            near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default()
        );
        return Err(Error::Definition { name: definition.name.clone(), reason });
    }
    // What `update-alternatives` would set.
    if definition.shell {
        for (path, target) in [("usr/bin/awk", "mawk"), ("usr/bin/which", "which.debianutils")] {
            if tree.get(path).is_none() && shipped(tree, &format!("usr/bin/{target}")) {
                tree.set(path, Node::symlink(target))?;
            }
        }
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
    for file in &definition.copied {
        let node = Node::file(file.content.to_vec()).with_mode(file.mode);
        tree.set(&file.path[1..], node.owned(file.owner))?;
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
fn certificates(tree: &mut Tree, definition: &Definition) -> Result<()> {
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
    for certificate in &definition.certificates {
        bundle.extend_from_slice(&certificate.content);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        let path = format!("usr/local/share/ca-certificates/{}", certificate.path);
        tree.set(&path, Node::file(certificate.content.to_vec()))?;
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
