//! A disk that is full: clear errors, nothing half-written, and on it goes when there is space again.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use testbed::{Options, WorkTree, directory, leftovers, need_mirror, need_root, package_cache, said, sha256};

use crate::shipway;

/// A small file system of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let at = directory();
        mount(Some("shipway-test"), at.path(), Some("tmpfs"), MsFlags::empty(), Some(size)).unwrap();
        Self(at)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let zeros = vec![0; 1 << 16];
        let mut file = std::fs::File::options().create(true).append(true).open(self.path().join("filler")).unwrap();
        while let Ok(written @ 1..) = std::io::Write::write(&mut file, &zeros) {
            assert!(written <= zeros.len());
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    if !need_root() {
        return;
    }
    let disk = SmallDisk::mount("size=24m");
    let server = Options::new(shipway()).data(disk.path().join("data")).start();
    let project = server.project("before");
    let first = project.push(&[("README.md", "fits\n")]);
    project.ended(1);

    disk.fill();
    let body = serde_json::json!({ "name": "during" });
    let refused = server.ask("POST", "/api/v1/projects", Some(&body));
    assert_eq!(refused.status, 503, "{refused:?}");
    let said = refused.json();
    assert!(said["error"].as_str().unwrap().to_lowercase().contains("space"), "{said}");
    let noise: String = (0..200_000).map(|n| sha256(&[n as u8, (n >> 8) as u8, (n >> 16) as u8])).collect();
    project.tree.write("noise", &noise);
    let second = project.tree.commit("Much");
    let refused = project.tree.git(&["push", "origin", "main"]).failed();
    assert!(
        refused.contains("space") || refused.contains("unable to write") || refused.contains("unpacker error"),
        "{refused}"
    );
    let upload = ["--user", &format!("admin:{}", server.token()), "--data-binary", "@-"];
    let url = server.url(&format!("/v2/app/blobs/uploads/?digest={}", sha256(noise.as_bytes())));
    let refused = testbed::Answer::fetch(
        &[&upload[..], &["--header", "Content-Type: application/octet-stream", &url]].concat(),
        noise.as_bytes(),
    );
    assert!(refused.status >= 500 && refused.body.contains("space"), "{refused:?}");
    assert!(server.healthy());
    let commits = project.json("/commits");
    assert_eq!(commits.as_array().unwrap().len(), 1, "{commits}");
    assert_eq!(commits[0]["id"], first.as_str());

    // A start on a full disk ends well or says why; either way nothing is lost.
    server.kill();
    disk.fill();
    let refused = Options::new(shipway()).data(disk.path().join("fresh")).refused();
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.err.to_lowercase().contains("space"), "{refused:?}");

    disk.free();
    server.restart();
    assert_eq!(server.get("/api/v1/projects/during").status, 404, "what was refused is not there");
    assert_eq!(server.ask("POST", "/api/v1/projects", Some(&body)).status, 201);
    // 13 MiB do not fit twice; what is small does.
    project.tree.git(&["reset", "--quiet", "--hard", &first]).ok();
    let third = project.push(&[("README.md", "fits again\n")]);
    assert_ne!(second, third);
    assert_eq!(project.ended(2)["commit"], third.as_str());
    let clone = WorkTree::new(None);
    clone.git(&["clone", "--quiet", &server.git_url("before"), "clone"]).ok();
    server.stop();
}

#[test]
fn a_build_on_a_full_disk_says_so_and_leaves_a_store_that_works() {
    if !need_root() || !need_mirror() {
        return;
    }
    let disk = SmallDisk::mount("size=190m");
    let context = directory();
    let write = |name: &str, content: &str| std::fs::write(context.path().join(name), content).unwrap();
    let build = |file: &str| {
        let mut command = std::process::Command::new(shipway());
        command.args(["build", "--progress", "plain", "-f", file, "."]).current_dir(context.path());
        command.arg("--data").arg(disk.path().join("data")).arg("--package-cache").arg(package_cache());
        said(&mut command, b"")
    };
    write("small", "FROM debian\nRUN echo fits > /a\n");
    build("small").ok();
    // A command that fills it.
    write("fills", "FROM debian\nRUN dd if=/dev/zero of=/filler bs=1M\n");
    let failed = build("fills");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.err.contains("fills:2:1: the command exited with status 1"), "{}", failed.err);
    assert!(
        failed.err.contains("the disk of the data directory is full") && !failed.err.contains("WARN"),
        "{}",
        failed.err
    );
    // A layer that does not fit beside its files.
    let noise: String = (0..1_170_000u32).map(|n| sha256(&n.to_le_bytes())).collect();
    write("noise", &noise);
    write("export", "FROM debian\nCOPY noise /\n");
    let failed = build("export").failed();
    assert!(failed.contains("full") || failed.to_lowercase().contains("no space"), "{failed}");
    // All is whole: what was there is there, and what fits is built.
    write("other", "FROM debian\nRUN cat /etc/os-release > /b\n");
    let cached = build("small");
    assert!(cached.err.contains("CACHED"), "{cached:?}");
    cached.ok();
    build("other").ok();
    assert_eq!(leftovers(&disk.path().join("data")), [] as [String; 0]);
}
