//! Starts one container without root: `cargo run -p sandbox --example rootless -- [directory]`, as an ordinary user. The root file
//! system is this machine's `/bin/sh` with its libraries; the program says who it is and what it sees.

use std::{path::Path, process::ExitCode};

use sandbox::{Config, ContainerSpec, NetworkConfig, NetworkMode, Sandbox, rootless};
use tokio::io::AsyncReadExt;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SCRIPT: &str = "id -u; touch /made; rm /etc/gone; rm -r /dir; mkdir /dir; echo new > /dir/new; ls /dir; cat /proc/self/uid_map; ls /proc/self/ns | head -3; echo done";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "sandbox-helper") {
        sandbox::helper_main(arguments)
    }
    match rootless::enter(sandbox::Wanted::Auto) {
        Ok(None) => {}
        Ok(Some(code)) => return code,
        Err(missing) => {
            missing.iter().for_each(|missing| eprintln!("{}: {}; {}", missing.what, missing.why, missing.fix));
            return ExitCode::FAILURE;
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run()));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    rootless::limits().iter().for_each(|limit| println!("{limit}"));
    let directory = match std::env::args_os().nth(1) {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let sandbox = Sandbox::open(Config {
        root: directory.path().join("root"),
        helper: vec!["/proc/self/exe".into(), "sandbox-helper".into()],
        instance: "example".into(),
        network: NetworkConfig { enabled: false, ..NetworkConfig::default() },
    })
    .await?;
    let ran = one(&sandbox).await;
    sandbox.shutdown().await?;
    ran
}

async fn one(sandbox: &Sandbox) -> Result<(), Failure> {
    let snapshots = sandbox.snapshots();
    snapshots.import::<Failure>("base", None, fill).map_err(|e| e.to_string())?;
    let active = snapshots.prepare("next", Some("base"))?;
    let mut spec = ContainerSpec::new("c", active.path(), ["/bin/sh", "-ec", SCRIPT]);
    if rootless::in_user_namespace() {
        spec.network = NetworkMode::Host;
    }
    let container = sandbox.start(spec).await?;
    let (mut out, mut err) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (container.take_stdout(), container.take_stderr()) {
        stdout.read_to_string(&mut out).await?;
        stderr.read_to_string(&mut err).await?;
    }
    println!("{:?}\n{out}{err}", container.wait().await.status);
    container.remove().await?;
    let upper = active.upper();
    active.commit()?;
    drop(upper);
    let mut diff: Vec<String> = walk(&snapshots.diff("next")?)?;
    diff.sort();
    println!("{}", diff.join("\n"));
    Ok(())
}

fn walk(root: &Path) -> Result<Vec<String>, Failure> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry?;
        let meta = entry.metadata()?;
        let kind = if meta.file_type().is_char_device() { " (whiteout)" } else { "" };
        let hides = xattr::get(entry.path(), "user.overlay.opaque")?.map_or("", |_| " (opaque)");
        found.push(format!("{} {}{kind}{hides}", meta.uid(), entry.path().strip_prefix(root)?.display()));
    }
    Ok(found)
}

/// Programs of this machine, and what they are linked against.
fn fill(root: &Path) -> Result<(), Failure> {
    for directory in ["bin", "etc", "dir", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::write(root.join("etc/gone"), "x")?;
    std::fs::write(root.join("dir/old"), "x")?;
    for program in ["sh", "id", "touch", "rm", "mkdir", "ls", "cat", "head"] {
        let from = ["/bin", "/usr/bin"].map(|d| Path::new(d).join(program)).into_iter().find(|p| p.exists());
        let from = from.ok_or("a program is not there")?;
        std::fs::copy(&from, root.join("bin").join(program))?;
        let listed = std::process::Command::new("ldd").arg(&from).output()?;
        for word in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let to = root.join(word.trim_start_matches('/'));
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::copy(word, to)?;
        }
    }
    Ok(())
}
