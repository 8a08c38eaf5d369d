//! Layers as they are on disk: round trips, overlayfs, and what hostile ones try.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{
    Kind,
    layer::{
        ApplyOptions, Compression, Whiteouts, WriteOptions, apply, apply_blob, recompress_blob, write, write_blob,
    },
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use proptest::prelude::*;
use store::{Blobs, MemoryBlobs};
use tar::{EntryType, Header};
use tempfile::TempDir;

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can make owners, whiteouts and trusted attributes");
    }
    root
}

/// Everything that a layer says about a tree.
fn describe(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut links: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(directory).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let path = entry.path().strip_prefix(directory).unwrap().to_owned();
        let kind = metadata.file_type();
        let mut content = String::new();
        if kind.is_file() {
            content = format!("{:?}", fs::read(entry.path()).unwrap());
        } else if kind.is_symlink() {
            content = format!("{:?}", fs::read_link(entry.path()).unwrap());
        }
        let mut attributes = Vec::new();
        for name in xattr::list(entry.path()).unwrap() {
            let value = xattr::get(entry.path(), &name).unwrap();
            attributes.push((name, value));
        }
        attributes.sort();
        let first = links.entry(metadata.ino()).or_insert(path.clone()).clone();
        let device = metadata.rdev();
        // A deletion has no time in a layer: that of its mark is when it was unpacked.
        let whiteout = kind.is_char_device() && device == 0;
        let mtime = if whiteout { 0 } else { metadata.mtime() };
        found.insert(
            path,
            format!(
                "{:o} {}:{} {} dev {device} same as {} {attributes:?} {content}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                mtime,
                first.display(),
            ),
        );
    }
    found
}

fn written(directory: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    write(directory, &WriteOptions { compression: Compression::None, ..WriteOptions::default() }, &mut out).unwrap();
    out
}

/// One thing in a random tree.
#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, u32, u32),
    Directory(u32, bool),
    Symlink(String),
    Hardlink(usize),
    Fifo,
    Whiteout,
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => (proptest::collection::vec(any::<u8>(), 0..1500), 0u32..0o10000, 0u32..3_000_000)
            .prop_map(|(content, mode, owner)| Thing::File(content, mode, owner)),
        3 => (0u32..0o10000, any::<bool>()).prop_map(|(mode, opaque)| Thing::Directory(mode, opaque)),
        2 => "[a-z./]{1,150}".prop_map(Thing::Symlink),
        2 => any::<usize>().prop_map(Thing::Hardlink),
        1 => Just(Thing::Fifo),
        1 => Just(Thing::Whiteout),
    ]
}

fn build(base: &Path, things: &[(Vec<u8>, usize, Thing)]) {
    let mut directories = vec![base.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    for (name, place, thing) in things {
        let path = directories[place % directories.len()].join(OsStr::from_bytes(name));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match thing {
            Thing::File(content, mode, owner) => {
                fs::write(&path, content).unwrap();
                std::os::unix::fs::chown(&path, Some(*owner), Some(owner / 2)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                files.push(path);
            }
            Thing::Directory(mode, opaque) => {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                if *opaque {
                    xattr::set(&path, "trusted.overlay.opaque", b"y").unwrap();
                }
                directories.push(path);
            }
            Thing::Symlink(target) => symlink(target, &path).unwrap(),
            Thing::Hardlink(which) if !files.is_empty() => {
                fs::hard_link(&files[which % files.len()], &path).unwrap();
            }
            Thing::Hardlink(_) => {}
            Thing::Fifo => mknod(&path, SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0).unwrap(),
            Thing::Whiteout => mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).unwrap(),
        }
    }
}

/// Dates everything in a tree back, each entry differently: what is unpacked in the same second would not show a time that was lost.
fn date_back(directory: &Path) {
    use nix::sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    };
    for (number, entry) in walkdir::WalkDir::new(directory).min_depth(1).contents_first(true).into_iter().enumerate() {
        let time = TimeSpec::new(1_000_000_000 + i64::try_from(number).unwrap(), 0);
        utimensat(nix::fcntl::AT_FDCWD, entry.unwrap().path(), &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof!["[a-z]{1,3}".prop_map(String::into_bytes), "[ -.0-~é]{1,60}".prop_map(String::into_bytes)]
        .prop_filter("no special names", |name| {
            !name.starts_with(b".wh.") && name != b"." && name != b".." && name.len() < 200
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_written_layer_unpacks_to_the_same_tree(
        things in proptest::collection::vec((name(), any::<usize>(), thing()), 0..25),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Gzip), Just(Compression::Zstd)],
    ) {
        if !root() {
            return Ok(());
        }
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        build(from.path(), &things);
        date_back(from.path());
        let mut out = Vec::new();
        let options = WriteOptions { compression, ..WriteOptions::default() };
        let first = write(from.path(), &options, &mut out).unwrap();
        prop_assert_eq!(first.size, out.len() as u64);
        let mut again = Vec::new();
        prop_assert_eq!(&write(from.path(), &options, &mut again).unwrap(), &first);
        prop_assert!(again == out);

        let apply_options = ApplyOptions { diff_id: Some(first.diff_id.clone()), ..ApplyOptions::default() };
        let applied = apply(&out[..], to.path(), &apply_options).unwrap();
        prop_assert_eq!((applied.entries, applied.bytes), (first.entries, first.tar_size));
        prop_assert_eq!(describe(to.path()), describe(from.path()));
        prop_assert!(written(to.path()) == written(from.path()));
    }

    #[test]
    fn damaged_layers_are_errors_and_never_panics(
        things in proptest::collection::vec((name(), any::<usize>(), thing()), 1..8),
        at in any::<prop::sample::Index>(), bits in 1u8.., cut in any::<prop::sample::Index>(),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Gzip), Just(Compression::Zstd)],
    ) {
        if !root() {
            return Ok(());
        }
        let (from, jail) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        build(from.path(), &things);
        let mut out = Vec::new();
        let first = write(from.path(), &WriteOptions { compression, ..WriteOptions::default() }, &mut out).unwrap();
        let to = jail.path().join("target");
        fs::create_dir(&to).unwrap();
        let at = at.index(out.len());
        out[at] ^= bits;
        let options = ApplyOptions { diff_id: Some(first.diff_id), ..ApplyOptions::default() };
        // Either it is noticed, or it was where it means nothing (a gzip header's time).
        if apply(&out[..], &to, &options).is_ok() {
            prop_assert_eq!(describe(&to), describe(from.path()));
        }
        let cut = cut.index(out.len());
        let _ = apply(&out[..cut], &to, &options);
        prop_assert_eq!(fs::read_dir(jail.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_file_with_holes_is_the_same_layer_as_one_without() {
    let make = |sparse: bool| {
        let directory = TempDir::new().unwrap();
        let mut file = fs::File::create(directory.path().join("f")).unwrap();
        let length = (40 << 20) + 12345;
        if sparse {
            file.set_len(length).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, b"here", 20 << 20).unwrap();
        } else {
            let mut content = vec![0; length as usize];
            content[20 << 20..(20 << 20) + 4].copy_from_slice(b"here");
            std::io::Write::write_all(&mut file, &content).unwrap();
        }
        let mut out = Vec::new();
        let options = WriteOptions { epoch: Some(0), ..WriteOptions::default() };
        let layer = write(directory.path(), &options, &mut out).unwrap();
        (layer, out, fs::metadata(directory.path().join("f")).unwrap().blocks())
    };
    let (sparse, plain) = (make(true), make(false));
    assert!(sparse.2 < plain.2, "this file system keeps holes");
    assert_eq!(sparse.0, plain.0);
    assert!(sparse.1 == plain.1);
}

#[test]
fn times_are_clamped_and_layers_deterministic() {
    let make = || {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d/new"), "x").unwrap();
        fs::write(directory.path().join("old"), "y").unwrap();
        let old = fs::File::open(directory.path().join("old")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000)).unwrap();
        directory
    };
    let options = WriteOptions { epoch: Some(1_000_000_000), ..WriteOptions::default() };
    let (mut one, mut two) = (Vec::new(), Vec::new());
    write(make().path(), &options, &mut one).unwrap();
    let layer = write(make().path(), &options, &mut two).unwrap();
    assert!(one == two);
    assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    let to = TempDir::new().unwrap();
    apply(&one[..], to.path(), &ApplyOptions { owners: root(), ..ApplyOptions::default() }).unwrap();
    let time = |name: &str| fs::metadata(to.path().join(name)).unwrap().mtime();
    assert_eq!((time("d/new"), time("d"), time("old")), (1_000_000_000, 1_000_000_000, 1000));
}

#[test]
fn other_tools_read_what_is_written() {
    if !root() {
        return;
    }
    let from = TempDir::new().unwrap();
    let long = "long-name-".repeat(20);
    fs::create_dir(from.path().join(&long)).unwrap();
    fs::write(from.path().join(&long).join("file"), vec![5; 70_000]).unwrap();
    fs::hard_link(from.path().join(&long).join("file"), from.path().join("other")).unwrap();
    symlink("t".repeat(150), from.path().join("link")).unwrap();
    fs::write(from.path().join("capable"), "x").unwrap();
    let capability = [1, 0, 0, 2, 10, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(from.path().join("capable"), "security.capability", &capability).unwrap();
    xattr::set(from.path().join("capable"), "user.note", b"a=b\nc").unwrap();
    let archive = TempDir::new().unwrap();
    let path = archive.path().join("layer.tar.gz");
    let options = WriteOptions { compression: Compression::Gzip, ..WriteOptions::default() };
    write(from.path(), &options, fs::File::create(&path).unwrap()).unwrap();
    let to = TempDir::new().unwrap();
    let output = std::process::Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xzpf"])
        .arg(&path)
        .arg("-C")
        .arg(to.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no tar here: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(describe(to.path()), describe(from.path()));
}

#[test]
fn what_a_layer_cannot_say_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(".wh.file"), "").unwrap();
    let error = write(directory.path(), &WriteOptions::default(), std::io::sink()).unwrap_err();
    assert_eq!(error.kind, Kind::EntryRefused);
    assert!(error.message.contains("`.wh.file`"), "{error}");
    if !root() {
        return;
    }
    for attribute in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("x");
        if attribute.ends_with("redirect") {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, "").unwrap();
        }
        xattr::set(&path, attribute, b"y").unwrap();
        let error = write(directory.path(), &WriteOptions::default(), std::io::sink()).unwrap_err();
        assert_eq!(error.kind, Kind::EntryRefused, "{attribute}");
    }
}

/// A mount that goes with the test.
struct Overlay(TempDir);

impl Overlay {
    fn new(lower: &Path, upper: &Path, work: &Path) -> nix::Result<Self> {
        let target = TempDir::new().unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), target.path(), Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self(target))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn an_overlay_looks_the_same_from_its_layer() {
    if !root() {
        return;
    }
    let base = TempDir::new().unwrap();
    let at = |name: &str| {
        let path = base.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let lower = at("lower");
    for name in ["keep", "gone", "dir/a", "dir/b", "replaced/old", "became/x", "emptied/y"] {
        fs::create_dir_all(lower.join(name).parent().unwrap()).unwrap();
        fs::write(lower.join(name), name).unwrap();
    }
    let mounted = match Overlay::new(&lower, &at("upper"), &at("work")) {
        Ok(mounted) => mounted,
        Err(error) => return eprintln!("SKIPPED: overlayfs cannot be mounted here: {error}"),
    };
    let merged = mounted.0.path();
    fs::remove_file(merged.join("gone")).unwrap();
    fs::remove_file(merged.join("dir/a")).unwrap();
    fs::write(merged.join("dir/b"), "changed").unwrap();
    fs::remove_dir_all(merged.join("replaced")).unwrap();
    fs::create_dir(merged.join("replaced")).unwrap();
    fs::write(merged.join("replaced/new"), "new").unwrap();
    fs::remove_dir_all(merged.join("became")).unwrap();
    fs::write(merged.join("became"), "a file").unwrap();
    fs::remove_dir_all(merged.join("emptied")).unwrap();
    symlink("keep", merged.join("link")).unwrap();
    let wanted: BTreeMap<_, _> = describe(merged);

    let mut layer = Vec::new();
    write(&at("upper"), &WriteOptions::default(), &mut layer).unwrap();
    let upper = at("upper2");
    apply(&layer[..], &upper, &ApplyOptions::default()).unwrap();
    let again = Overlay::new(&lower, &upper, &at("work2")).unwrap();
    let strip = |tree: BTreeMap<PathBuf, String>| {
        // The two mounts have attributes of their own bookkeeping.
        tree.into_iter().map(|(path, text)| (path, text.split(" [").next().unwrap().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(strip(describe(again.0.path())), strip(wanted.clone()));

    // The same layer applied to one flat tree.
    let flat = at("flat");
    let mut bottom = Vec::new();
    write(&lower, &WriteOptions::default(), &mut bottom).unwrap();
    for layer in [&bottom, &layer] {
        apply(&layer[..], &flat, &ApplyOptions { whiteouts: Whiteouts::Delete, ..ApplyOptions::default() }).unwrap();
    }
    assert_eq!(strip(describe(&flat)), strip(wanted));
}

/// Writes tars that no sane tool would.
struct Raw(Vec<u8>);

impl Raw {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str) -> Self {
        self.add(EntryType::Regular, path, "", b"evil")
    }

    fn link(self, path: &str, to: &str) -> Self {
        self.add(EntryType::Symlink, path, to, b"")
    }

    fn hard(self, path: &str, to: &str) -> Self {
        self.add(EntryType::Link, path, to, b"")
    }

    fn directory(self, path: &str) -> Self {
        self.add(EntryType::Directory, path, "", b"")
    }
}

/// Unpacks into a directory beside which lie files that must not change.
fn attack(tar: &Raw, options: &ApplyOptions) -> (image::Result<image::layer::Applied>, TempDir) {
    let jail = TempDir::new().unwrap();
    let target = jail.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::create_dir(jail.path().join("outside")).unwrap();
    fs::write(jail.path().join("outside/file"), "precious").unwrap();
    let before = describe(&jail.path().join("outside"));
    let outcome = apply(&tar.0[..], &target, options);
    assert_eq!(describe(&jail.path().join("outside")), before, "something outside was touched");
    assert_eq!(fs::read_dir(jail.path()).unwrap().count(), 2);
    (outcome, jail)
}

fn options() -> ApplyOptions {
    ApplyOptions { owners: nix::unistd::geteuid().is_root(), ..ApplyOptions::default() }
}

#[test]
fn hostile_layers_are_refused_by_name() {
    let outside = "../outside/file";
    for (tar, entry) in [
        (Raw::new().file("../outside/file"), outside),
        (Raw::new().file("a/../../outside/file"), "a/../../outside/file"),
        (Raw::new().file("a/.."), "a/.."),
        (Raw::new().hard("x", "../outside/file"), "x"),
        (Raw::new().hard("x", "/etc/passwd"), "x"),
        (Raw::new().hard("x", "nowhere"), "x"),
        (Raw::new().hard("x", "x"), "x"),
        (Raw::new().directory("d").hard("x", "d"), "x"),
        (Raw::new().link("out", "../outside").file("out/file"), "out/file"),
        (Raw::new().link("out", "../outside").directory("out/sub/dir"), "out/sub/dir"),
        (Raw::new().link("out", "/").file("out/etc/shadow"), "out/etc/shadow"),
        (Raw::new().link("out", "../outside").hard("x", "out/file"), "x"),
        (Raw::new().link("a", "b").link("b", "a").file("a/x"), "a/x"),
        (Raw::new().link("a", "b/..").link("b", "../outside").file("a/x"), "a/x"),
        (Raw::new().link("proc", "/proc/self/root").file("proc/x"), "proc/x"),
        (Raw::new().file("f").file("f/x"), "f/x"),
        (Raw::new().add(EntryType::Char, "dev/mem", "", b""), "dev/mem"),
        (Raw::new().add(EntryType::Block, "dev/sda", "", b""), "dev/sda"),
        (Raw::new().file(".wh."), ".wh."),
        (Raw::new().file(".wh..."), ".wh..."),
        (Raw::new().file("."), "."),
    ] {
        let (outcome, _jail) = attack(&tar, &options());
        let error = outcome.expect_err(entry);
        assert!(matches!(error.kind, Kind::EntryRefused | Kind::Malformed), "{entry}: {error:?}");
        assert!(error.message.contains(&format!("`{entry}`")), "{entry}: {error}");
    }
}

#[test]
fn links_may_point_anywhere_but_nothing_follows_them_out() {
    if !root() {
        return;
    }
    // The last part of a path is never followed: the link is replaced.
    let tar =
        Raw::new().link("file", "../outside/file").file("file").link("d", "../outside").directory("d").file("d/file");
    let (outcome, jail) = attack(&tar, &options());
    outcome.unwrap();
    assert_eq!(fs::read(jail.path().join("target/file")).unwrap(), b"evil");
    assert_eq!(fs::read(jail.path().join("target/d/file")).unwrap(), b"evil");
    // Relative links within the layer lead where they say.
    let (outcome, jail) = attack(&Raw::new().directory("usr/lib").link("lib", "usr/lib").file("lib/x"), &options());
    outcome.unwrap();
    assert!(jail.path().join("target/usr/lib/x").exists());
    // On request absolute links count as in a container.
    let tar = Raw::new().directory("run").link("var/run", "/run").file("var/run/x").link("up", "../../..").file("up/y");
    let (outcome, jail) = attack(&tar, &ApplyOptions { absolute_links: true, ..options() });
    outcome.unwrap();
    assert!(jail.path().join("target/run/x").exists() && jail.path().join("target/y").exists());
    // An absolute path is one from the root of the layer.
    let (outcome, jail) = attack(&Raw::new().file("/etc/x"), &options());
    outcome.unwrap();
    assert!(jail.path().join("target/etc/x").exists());
}

#[test]
fn whiteouts_stand_for_lower_layers_only() {
    if !root() {
        return;
    }
    let marker = |path: &str| Raw::new().add(EntryType::Regular, path, "", b"");
    // A deletion, and a new directory of that name in the same layer, in both orders.
    for tar in [
        marker(".wh.d").directory("d").file("d/new"),
        Raw::new().directory("d").file("d/new").add(EntryType::Regular, ".wh.d", "", b""),
        marker("d/.wh..wh..opq").file("d/new"),
        marker(".wh.d").file("d/new"),
    ] {
        let (outcome, jail) = attack(&tar, &options());
        outcome.unwrap();
        let directory = jail.path().join("target/d");
        assert_eq!(xattr::get(&directory, "trusted.overlay.opaque").unwrap().as_deref(), Some(&b"y"[..]));
        assert!(directory.join("new").exists());
    }
    let (outcome, jail) = attack(&marker("a/.wh.b"), &options());
    outcome.unwrap();
    let metadata = fs::symlink_metadata(jail.path().join("target/a/b")).unwrap();
    assert_eq!((metadata.mode() & SFlag::S_IFMT.bits(), metadata.rdev()), (SFlag::S_IFCHR.bits(), 0));
    // Where the tar is no layer, they are files.
    let (outcome, jail) = attack(&marker(".wh.b"), &ApplyOptions { whiteouts: Whiteouts::Plain, ..options() });
    outcome.unwrap();
    assert!(jail.path().join("target/.wh.b").exists());
}

#[test]
fn bombs_are_defused() {
    let tar = (0..101).fold(Raw::new(), |tar, n| tar.file(&format!("file-{n}")));
    let (outcome, _jail) = attack(&tar, &ApplyOptions { max_entries: 100, ..options() });
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
    assert!(error.message.contains("`file-100`"), "{error}");

    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("zeros"), vec![0; 20 << 20]).unwrap();
    let mut packed = Vec::new();
    write(directory.path(), &WriteOptions::default(), &mut packed).unwrap();
    assert!(packed.len() < 100_000);
    let (outcome, _jail) = attack(&Raw(packed), &ApplyOptions { max_bytes: 1 << 20, ..options() });
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge, "{error}");
    assert!(error.message.contains("`zeros`"), "{error}");
}

#[test]
fn a_wrong_diff_id_is_noticed() {
    let other = "sha256:".to_owned() + &"0".repeat(64);
    let (outcome, _jail) =
        attack(&Raw::new().file("x"), &ApplyOptions { diff_id: Some(other.parse().unwrap()), ..options() });
    assert_eq!(outcome.unwrap_err().kind, Kind::DigestInvalid);
}

#[test]
fn what_is_no_archive_is_malformed() {
    let (outcome, _jail) = attack(&Raw(vec![42; 2000]), &options());
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, Kind::Malformed, "{error}");
    let mut cut = Raw::new().file("cut");
    cut.0.truncate(513);
    let (outcome, _jail) = attack(&cut, &options());
    let error = outcome.unwrap_err();
    assert!(error.kind == Kind::Malformed && error.message.contains("`cut`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_go_through_a_store() {
    let from = TempDir::new().unwrap();
    fs::write(from.path().join("file"), vec![9; 3_000_000]).unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(MemoryBlobs::new());
    let layer = write_blob(&blobs, from.path().to_owned(), WriteOptions::default()).await.unwrap();
    assert_eq!(blobs.size(&layer.digest).await.unwrap(), Some(layer.size));
    let to = TempDir::new().unwrap();
    let reader = blobs.read(&layer.digest, 0, None).await.unwrap();
    let options = ApplyOptions { diff_id: Some(layer.diff_id), ..options() };
    apply_blob(reader, to.path().to_owned(), options).await.unwrap();
    assert!(fs::read(to.path().join("file")).unwrap() == vec![9; 3_000_000]);
    let error = write_blob(&blobs, from.path().join("absent"), WriteOptions::default()).await.unwrap_err();
    assert!(error.message.contains("absent"), "{error}");
}

#[tokio::test]
async fn a_layer_compressed_anew_is_what_it_would_have_been() {
    let directory = TempDir::new().unwrap();
    // More than one block of each compression.
    let content: Vec<u8> = (0..5_000_000u32).flat_map(|n| (n / 7).to_le_bytes()[..2].to_vec()).collect();
    fs::write(directory.path().join("a"), content).unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(MemoryBlobs::default());
    let all = [Compression::None, Compression::Gzip, Compression::Zstd];
    let mut made = Vec::new();
    for compression in all {
        let options = WriteOptions { compression, epoch: Some(0), ..WriteOptions::default() };
        made.push(write_blob(&blobs, directory.path().to_owned(), options).await.unwrap());
    }
    for from in &made {
        for (compression, to) in all.into_iter().zip(&made) {
            let reader = blobs.read(&from.digest, 0, None).await.unwrap();
            let again = recompress_blob(&blobs, reader, &from.diff_id, compression, None).await.unwrap();
            assert_eq!(again, (to.digest.clone(), to.size), "{} to {compression:?}", from.media_type);
        }
        // Something else than the configuration says, or not all of it.
        let reader = blobs.read(&from.digest, 0, None).await.unwrap();
        let other = recompress_blob(&blobs, reader, &made[1].digest, Compression::Gzip, None).await.unwrap_err();
        assert_eq!(other.kind, Kind::DigestInvalid);
        let reader = blobs.read(&from.digest, 0, Some(from.size - 700)).await.unwrap();
        recompress_blob(&blobs, reader, &from.diff_id, Compression::Gzip, None).await.unwrap_err();
    }
}
