//! `shipway build` without root: the same image, by digest, as root's.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use testbed::{Said, need_mirror, need_root, need_tool, package_cache, said};

use crate::shipway;

/// Whoever this is, nobody on the machine has the number.
const USER: u32 = 54321;

const DOCKERFILE: &str = r#"FROM debian AS build
RUN mkdir -p /src/sub && echo run > /src/sub/out && chown 1000:1000 /src/sub/out && rm /etc/issue && rm -r /etc/skel
COPY --chown=7:8 a.txt /src/
FROM debian
COPY --from=build /src /app
RUN rm -r /home/nonroot && mkdir /home/nonroot && id -u > /who && touch /home/nonroot/new
USER 1000:1000
RUN id -u > /tmp/who
"#;

/// A directory that the user can reach, with a context and stores for both.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let directory = testbed::directory();
        let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        open(directory.path(), 0o755);
        let context = directory.path().join("context");
        std::fs::create_dir(&context).unwrap();
        std::fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
        std::fs::write(context.join("a.txt"), "a").unwrap();
        open(&context.join("a.txt"), 0o644);
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
        // The user, as only this test's file tree knows it.
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = format!("shipway-test:x:{USER}:{USER}::{}:/bin/sh\n", home.display());
        std::fs::write(directory.path().join("passwd"), passwd + &line).unwrap();
        std::fs::write(directory.path().join("subid"), "shipway-test:2000000:65536\n").unwrap();
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, store: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(shipway());
        command.args(["build", "-q"]).args(arguments).arg("--data").arg(self.at(store));
        command.env("SOURCE_DATE_EPOCH", "1750000000").current_dir(self.at("context"));
        command
    }

    fn as_root(&self) -> Said {
        self.as_root_with(&["-t", "app:1", "."])
    }

    fn as_root_with(&self, arguments: &[&str]) -> Said {
        said(self.command("root", arguments).arg("--package-cache").arg(package_cache()), b"")
    }

    /// As the user, with ids of `/etc/subuid` or without.
    fn as_user(&self, ids: bool) -> Said {
        self.as_user_with(ids, &["-t", "app:1", "."])
    }

    fn as_user_with(&self, ids: bool, arguments: &[&str]) -> Said {
        let mut command = self.command("home/store", arguments);
        self.own_cache(&mut command);
        self.run_as_user(ids, command)
    }

    fn own_cache(&self, command: &mut Command) {
        // What root fetched, as the user's own, so that nothing is fetched twice.
        let cache = self.at("home/packages");
        let copied = Command::new("cp").arg("-rT").arg(package_cache()).arg(&cache).status();
        let given = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(&cache).status();
        assert!(copied.is_ok_and(|s| s.success()) && given.is_ok_and(|s| s.success()), "the cache cannot be copied");
        command.arg("--package-cache").arg(cache).env_remove("SHIPWAY_PACKAGE_CACHE");
    }

    fn run_as_user(&self, ids: bool, mut command: Command) -> Said {
        self.become_user(ids, &mut command);
        said(&mut command, b"")
    }

    fn become_user(&self, ids: bool, command: &mut Command) {
        let (passwd, subid) = (self.at("passwd"), if ids { self.at("subid") } else { "/dev/null".into() });
        command.env("HOME", self.at("home"));
        let prepare = move || {
            use nix::{mount, sched, unistd};
            let none = None::<&str>;
            sched::unshare(sched::CloneFlags::CLONE_NEWNS)?;
            mount::mount(none, "/", none, mount::MsFlags::MS_REC | mount::MsFlags::MS_PRIVATE, none)?;
            for (from, to) in [(&passwd, "/etc/passwd"), (&subid, "/etc/subuid"), (&subid, "/etc/subgid")] {
                mount::mount(Some(from), to, none, mount::MsFlags::MS_BIND, none)?;
            }
            unistd::setgroups(&[])?;
            let group = unistd::Gid::from_raw(USER);
            unistd::setresgid(group, group, group)?;
            let user = unistd::Uid::from_raw(USER);
            unistd::setresuid(user, user, user)?;
            Ok(())
        };
        // SAFETY: only system calls between fork and exec.
        unsafe { command.pre_exec(prepare) };
    }
}

fn possible() -> bool {
    let readable = std::fs::File::open(shipway()).is_ok();
    let files = ["/etc/subuid", "/etc/subgid"].iter().all(|path| Path::new(path).exists());
    if !files {
        eprintln!("SKIPPED: there is no /etc/subuid");
    }
    need_root() && need_mirror() && need_tool("newuidmap") && readable && files
}

#[test]
fn an_ordinary_user_builds_the_same_image() {
    if !possible() {
        return;
    }
    let ground = Ground::new();
    let root = ground.as_root();
    assert!(root.success(), "{}", root.err);
    let user = ground.as_user(true);
    assert!(user.success(), "{}", user.err);
    assert_eq!(user.out, root.out);
    // It stays whole for the next build, which does nothing anew.
    let again = ground.as_user(true);
    assert_eq!((again.code, &again.out), (Some(0), &root.out), "{}", again.err);
    // And can be thrown away, snapshots and all.
    let mut prune = Command::new(shipway());
    prune.args(["image", "prune", "--data"]).arg(ground.at("home/store"));
    let pruned = ground.run_as_user(true, prune);
    assert!(pruned.success(), "{}", pruned.err);
}

#[test]
fn an_interrupted_build_of_an_ordinary_user_ends_whole() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::Stdio,
    };
    if !possible() {
        return;
    }
    let ground = Ground::new();
    std::fs::write(ground.at("context/Dockerfile"), "FROM debian\nRUN echo begun && sleep 100000\n").unwrap();
    let mut command = Command::new(shipway());
    command.args(["build", "--progress", "plain", ".", "--data"]).arg(ground.at("home/store"));
    command.current_dir(ground.at("context"));
    ground.own_cache(&mut command);
    ground.become_user(true, &mut command);
    // Nobody else is in its group: the signal reaches the process that was started and no other.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut heard = String::new();
    while !heard.lines().any(|line| line.ends_with(" begun")) {
        assert_ne!(lines.read_line(&mut heard).unwrap(), 0, "it ended before: {heard}");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    lines.read_to_string(&mut heard).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{heard}");
    // What the kernel takes away in the background is given its time.
    testbed::wait_for("nothing is left", std::time::Duration::from_secs(60), || {
        let left = testbed::leftovers(&ground.at("home/store"));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    // The store is whole.
    std::fs::write(ground.at("context/Dockerfile"), "FROM debian\nRUN true\n").unwrap();
    ground.as_user(true).ok();
}

#[test]
fn buildpacks_make_the_same_image_without_root() {
    if !possible() {
        return;
    }
    let ground = Ground::new();
    let put = |file: &str, text: &str, mode| {
        let path = ground.at("context").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    put(
        "Dockerfile",
        "FROM debian\nENV CNB_USER_ID=1000 CNB_GROUP_ID=1001\nRUN mkdir -p /home/cnb && chown 1000:1001 /home/cnb\n",
        0o644,
    );
    put("own/buildpack.toml", "api = \"0.10\"\n[buildpack]\nid = \"own\"\nversion = \"1\"\n", 0o644);
    put("own/bin/detect", "#!/bin/sh\nexit 0\n", 0o755);
    let build = "#!/bin/sh\nset -e\nmkdir \"$1/l\"\nid -u > \"$1/l/who\"\n\
                 printf '[types]\\nlaunch = true\\n' > \"$1/l.toml\"\necho made > made.txt\n";
    put("own/bin/build", build, 0o755);
    let packs = ["-t", "app:1", "--builder", "builder:1", "--run-image", "builder:1", "--buildpack", "own", "."];
    let builder = ["-t", "builder:1", "."];
    ground.as_root_with(&builder).ok();
    let root = ground.as_root_with(&packs);
    assert!(root.success(), "{}", root.err);
    let made = ground.as_user_with(true, &builder);
    assert!(made.success(), "{}", made.err);
    let user = ground.as_user_with(true, &packs);
    assert!(user.success(), "{}", user.err);
    assert_eq!(user.out, root.out);
}

#[test]
fn who_has_one_id_is_told_so() {
    if !possible() {
        return;
    }
    let ground = Ground::new();
    let user = ground.as_user(false);
    assert!(!user.success());
    assert!(user.err.contains("there are no subordinate ids for this user"), "{}", user.err);
    assert!(user.err.contains("--add-subuids"), "{}", user.err);
}
