//! `shipway build` where nobody may make a namespace or mount: in a container or Pod with the default seccomp profile.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::libc;
use testbed::{Said, need_mirror, need_root, package_cache, said};

use crate::shipway;

const USER: u32 = 54321;

/// Everything that a step can do to files, and everything that it can be given.
const DOCKERFILE: &str = r#"FROM debian AS build
ARG TIMES=1
RUN mkdir -p /src/sub && echo run > /src/sub/out && chown 1000:1000 /src/sub/out && rm /etc/issue && rm -r /etc/skel
RUN ln /etc/passwd /etc/passwd.more && chmod 600 /etc/group && chown 0:0 /etc/services && \
    rm -r /etc/default && mkdir /etc/default && touch /etc/default/new && rm /etc/debian_version && mkdir /etc/debian_version
RUN mv /etc/debian_version /etc/moved && rm -r /src/sub/../sub && echo file > /src/sub && mkfifo /etc/pipe && ln -s /nowhere /src/link
COPY --chown=7:8 a.txt /src/
FROM debian
ARG TIMES=1
RUN --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/tmp/t --mount=type=secret,id=word,target=/etc/deep/word \
    --mount=type=bind,from=build,source=/src,target=/mnt,rw --mount=type=bind,target=/etc/context \
    echo x >> /var/cache/x/f && test "$(wc -l < /var/cache/x/f)" = "$TIMES" && cat /etc/deep/word > /word && touch /tmp/t/gone && \
    cat /mnt/a.txt /etc/context/a.txt > /read && touch /mnt/gone && test ! -e /etc/context/gone && echo gone > /dev/null && test -c /dev/null
COPY --from=build /src /app
RUN rm -r /home/nonroot && mkdir /home/nonroot && id -u > /who && touch /home/nonroot/new && ls -A /dev/shm > /shm && (sleep 7654321 &)
USER 1000:1000
RUN id -u > /tmp/who && test "$(umask)" = 0022
"#;

/// System calls that the default profile of a container answers with EPERM.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
];

/// What a container's root has: Docker's default set.
const CAPABILITIES: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// Makes a command one of a container without privileges: its seccomp filter, and its root's capabilities or an ordinary user.
fn confine(command: &mut Command, root: bool) {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (at, call) in FORBIDDEN.iter().enumerate() {
        let rest = (FORBIDDEN.len() - at) as u8;
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, rest, 0, *call as u32));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    let prepare = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        let check = |result: libc::c_long| match result {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        };
        // SAFETY: plain system calls with arguments that live until they return.
        unsafe {
            check(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program))?;
            for bit in (0..41u32).filter(|bit| !CAPABILITIES.contains(bit)) {
                check(libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0).into())?;
            }
            if !root {
                check(libc::setgroups(0, std::ptr::null()).into())?;
                check(libc::setresgid(USER, USER, USER).into())?;
                check(libc::setresuid(USER, USER, USER).into())?;
            }
        }
        Ok(())
    };
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(prepare) };
}

struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let directory = testbed::directory();
        let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        open(directory.path(), 0o755);
        let ground = Self { directory };
        std::fs::create_dir(ground.at("context")).unwrap();
        ground.dockerfile(DOCKERFILE);
        for name in ["a.txt", "word"] {
            std::fs::write(ground.at("context").join(name), name).unwrap();
            open(&ground.at("context").join(name), 0o644);
        }
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn dockerfile(&self, text: &str) {
        std::fs::write(self.at("context/Dockerfile"), text).unwrap();
    }

    fn command(&self, store: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(shipway());
        command.args(["build", "-q", "-t", "app:1", "--secret", "id=word,src=word"]).args(arguments).arg(".");
        command.arg("--data").arg(self.at(store)).arg("--package-cache").arg(package_cache());
        command.env("SOURCE_DATE_EPOCH", "1750000000").env_remove("SHIPWAY_ISOLATION");
        command.current_dir(self.at("context"));
        command
    }

    fn outside(&self, arguments: &[&str]) -> Said {
        said(&mut self.command("outside", arguments), b"")
    }

    fn inside(&self, arguments: &[&str]) -> Said {
        let mut command = self.command("inside", arguments);
        confine(&mut command, true);
        said(&mut command, b"")
    }
}

/// Whether a process with this word among its arguments runs.
fn runs(word: &str) -> bool {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
}

#[test]
fn without_namespaces_the_image_is_the_same() {
    if !need_root() || !need_mirror() {
        return;
    }
    let ground = Ground::new();
    let outside = ground.outside(&[]);
    assert!(outside.success(), "{}", outside.err);
    let inside = ground.inside(&[]);
    assert!(inside.success(), "{}", inside.err);
    assert!(inside.err.contains("steps are not kept apart from this container"), "{}", inside.err);
    assert_eq!(inside.out, outside.out);
    assert!(!runs("7654321"), "what a step leaves running is ended with it");
    // Nothing anew, the same again.
    let again = ground.inside(&[]);
    assert_eq!((again.code, &again.out), (Some(0), &outside.out), "{}", again.err);
    // The cache is kept from one build to the next.
    let more = ground.inside(&["--build-arg", "TIMES=2"]);
    assert!(more.success(), "{}", more.err);
    let snapshots = ground.at("inside/sandbox-chroot/snapshots");
    for place in ["active", "views"] {
        let left: Vec<_> = std::fs::read_dir(snapshots.join(place)).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn without_namespaces_what_cannot_be_had_is_refused() {
    if !need_root() || !need_mirror() {
        return;
    }
    let ground = Ground::new();
    let told = ground.inside(&["--isolation", "namespaces"]);
    assert_eq!(told.code, Some(6), "{}", told.err);
    assert!(told.err.contains("the seccomp profile of this container forbids them"), "{}", told.err);
    let mut user = ground.command("user", &[]);
    confine(&mut user, false);
    let told = said(&mut user, b"");
    assert_eq!(told.code, Some(6), "{}", told.err);
    assert!(told.err.contains("the seccomp profile of this container forbids them"), "{}", told.err);
    assert!(told.err.contains("run this container as root"), "{}", told.err);
    // A step that fails is told as ever, and one without a network cannot be had.
    ground.dockerfile("FROM debian\nRUN --network=none true\n");
    let told = ground.inside(&[]);
    assert!(!told.success() && told.err.contains("--network=none"), "{}", told.err);
    ground.dockerfile("FROM debian\nRUN --mount=type=cache,target=/c echo kept > /c/f; echo why >&2; exit 7\n");
    let told = ground.inside(&[]);
    assert!(!told.success() && told.err.contains("why") && told.err.contains('7'), "{}", told.err);
    ground
        .dockerfile("FROM debian\nRUN --mount=type=cache,target=/c grep kept /c/f\nRUN chroot / true; test $? = 125\n");
    let told = ground.inside(&[]);
    assert!(told.success(), "{}", told.err);
}
