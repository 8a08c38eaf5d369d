//! SSH keys for a build: an agent of its own, that lives as long as the build and holds nothing else.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::fault::{Class, Fault, Result};

/// How often the agent's socket is looked for, and with what pause.
const LOOKS: u32 = 200;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// A running agent. Dropped, it ends, and its socket is gone.
#[derive(Debug)]
pub struct KeyAgent {
    agent: Child,
    directory: tempfile::TempDir,
}

impl KeyAgent {
    /// Starts an agent that holds these keys. A key with a passphrase is refused: nobody is there to type it.
    pub fn start(keys: &[PathBuf]) -> Result<Self> {
        let failed =
            |e: &dyn std::fmt::Display| Fault::new(Class::Unavailable, format!("cannot start an SSH agent: {e}"));
        let directory = tempfile::Builder::new().prefix(".shipway-ssh-").tempdir().map_err(|e| failed(&e))?;
        let socket = directory.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It ends with the build, even when that is killed.
        // SAFETY: between fork and exec one system call is made, and nothing is allocated.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?));
        }
        let agent = command.spawn().map_err(|e| {
            failed(&e).hint("install OpenSSH's client, or name the socket of an agent that runs: --ssh ID=SOCKET")
        })?;
        let mut agent = Self { agent, directory };
        for _ in 0..LOOKS {
            if socket.exists() {
                keys.iter().try_for_each(|key| add(&socket, key))?;
                return Ok(agent);
            }
            if let Ok(Some(status)) = agent.agent.try_wait() {
                return Err(failed(&status));
            }
            std::thread::sleep(PAUSE);
        }
        Err(failed(&"it made no socket"))
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }
}

fn add(socket: &Path, key: &Path) -> Result<()> {
    let output = Command::new("ssh-add")
        .args(["-q", "--"])
        .arg(key)
        .env("SSH_AUTH_SOCK", socket)
        .env("SSH_ASKPASS", "/bin/false")
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot run ssh-add: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or("it has a passphrase, or is no key").to_owned();
    Err(Fault::usage(format!("--ssh: {} cannot be used: {said}", key.display()))
        .hint("a key with a passphrase goes into an agent of yours: ssh-add KEY, then --ssh default"))
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(directory: &Path, passphrase: &str) -> Option<PathBuf> {
        let path = directory.join(format!("key{}", passphrase.len()));
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(&path).status();
        made.is_ok_and(|status| status.success()).then_some(path)
    }

    #[test]
    fn an_agent_holds_the_keys_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let Some(plain) = key(directory.path(), "") else {
            eprintln!("SKIPPED: ssh-keygen is not installed");
            return;
        };
        let agent = KeyAgent::start(std::slice::from_ref(&plain)).unwrap();
        let listed = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", agent.socket()).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("ED25519"));
        let socket = agent.socket();
        drop(agent);
        assert!(!socket.exists());
        let locked = key(directory.path(), "secret words").unwrap();
        let error = KeyAgent::start(&[locked]).unwrap_err();
        assert!(error.message.contains("cannot be used"), "{}", error.message);
    }
}
