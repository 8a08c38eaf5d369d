//! `helm registry login` and `logout`: credentials in the file that Docker's tools share.

use std::{
    io::{BufRead, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use image::client::Credentials;
use serde_json::{Value as Json, json};

use super::{
    access::Access,
    places::{Places, write},
    registry::{client, said},
};
use crate::fault::{Class, Fault, Result};

// What to do about log-ins.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try credentials and keep them
    Login(Login),
    /// Forget credentials
    Logout {
        /// The registry, as host:port
        host: String,
        #[command(flatten)]
        places: Places,
    },
}

// Flags of `helm registry login`.
#[derive(Args)]
pub struct Login {
    /// The registry, as host:port
    host: String,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password or token; better from standard input
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Certificates of the authorities that vouch for the registry
    #[arg(long, value_name = "FILE")]
    ca_file: Option<std::path::PathBuf>,
    /// Certificate of this client
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<std::path::PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<std::path::PathBuf>,
    /// Do not ask who the registry is
    #[arg(long)]
    insecure: bool,
    /// Without TLS
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    places: Places,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("host", &self.host).finish_non_exhaustive()
    }
}

pub async fn main(command: Command) -> Result<ExitCode> {
    match command {
        Command::Login(login) => log_in(login).await,
        Command::Logout { host, places } => {
            let path = places.registries();
            let mut config = config(&path)?;
            if let Some(logins) = config.get_mut("auths").and_then(Json::as_object_mut) {
                names(&host).iter().for_each(|name| drop(logins.remove(name)));
            }
            save(&path, &config)?;
            super::say(format!("Removing login credentials for {host}"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn log_in(login: Login) -> Result<ExitCode> {
    let host = login.host.as_str();
    if host.contains('/') {
        return Err(Fault::usage(format!("{host} is more than a registry's host"))
            .hint(format!("log in to {}", host.split('/').find(|part| part.contains('.')).unwrap_or("HOST:PORT"))));
    }
    let unreadable = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot read standard input: {e}"));
    let username = match login.username {
        Some(username) => username,
        None if std::io::stdin().is_terminal() => {
            eprint!("Username: ");
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map_err(unreadable)?;
            line.trim().to_owned()
        }
        None => return Err(Fault::usage("no user name").hint("give --username, and --password-stdin")),
    };
    let password = match login.password {
        Some(password) => password,
        None if login.password_stdin => {
            let mut text = String::new();
            std::io::stdin().take(64 << 10).read_to_string(&mut text).map_err(unreadable)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None if std::io::stdin().is_terminal() => hidden().map_err(unreadable)?,
        None => return Err(Fault::usage("no password").hint("give it on standard input with --password-stdin")),
    };
    let access = Access {
        username: Some(username.clone()),
        password: Some(password.clone()),
        ca_file: login.ca_file,
        cert_file: login.cert_file,
        key_file: login.key_file,
        insecure_skip_tls_verify: login.insecure,
        plain_http: login.plain_http,
        pass_credentials: false,
    };
    client(host, &access, &login.places)?.log_in(host).await.map_err(|error| {
        let fault = said(error);
        Fault { message: format!("authenticating to {host:?}: {}", fault.message), hint: None, ..fault }
    })?;
    let path = login.places.registries();
    let mut config = config(&path)?;
    config["auths"][&names(host)[0]] = json!({ "auth": STANDARD.encode(format!("{username}:{password}")) });
    save(&path, &config)?;
    super::say("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// A line from the terminal, not shown while it is typed.
fn hidden() -> std::io::Result<String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    eprint!("Password: ");
    std::io::stderr().flush()?;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSANOW, &before)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The names that a registry goes by in such files, the one to write first.
fn names(host: &str) -> Vec<String> {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            ["https://index.docker.io/v1/", "docker.io", "index.docker.io"].map(str::to_owned).to_vec()
        }
        host => vec![host.to_owned(), format!("https://{host}"), format!("http://{host}")],
    }
}

fn config(path: &Path) -> Result<Json> {
    match std::fs::read(path) {
        Ok(text) => {
            let read: Option<Json> = serde_json::from_slice(&text).ok();
            read.filter(Json::is_object).ok_or_else(|| Fault::usage(format!("{} is no JSON object", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!({ "auths": {} })),
        Err(error) => Err(Fault::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

fn save(path: &Path, config: &Json) -> Result<()> {
    let text = serde_json::to_vec_pretty(config).unwrap_or_default();
    write(path, &text, true)
        .map_err(|e| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display())))
}

/// What was kept for a registry: in Helm's file, else in Docker's.
pub fn find(path: &Path, host: &str) -> Option<Credentials> {
    let docker = std::env::var_os("DOCKER_CONFIG").map(std::path::PathBuf::from);
    let docker = docker.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".docker")));
    let files = [Some(path.to_owned()), docker.map(|docker| docker.join("config.json"))];
    files.into_iter().flatten().find_map(|file| {
        let config: Json = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let helper = |name: &String| config["credHelpers"][name].as_str().or(config["credsStore"].as_str());
        names(host).iter().find_map(|name| {
            let kept = config["auths"][name]["auth"].as_str().and_then(decode);
            kept.or_else(|| ask(helper(name)?, name))
        })
    })
}

fn decode(auth: &str) -> Option<Credentials> {
    let plain = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// Asks a program that keeps credentials elsewhere, as Docker does.
fn ask(helper: &str, host: &str) -> Option<Credentials> {
    use std::process::{Command, Stdio};
    if !helper.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return None;
    }
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(program);
    let mut child =
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    child.stdin.take()?.write_all(host.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let said: Json = serde_json::from_slice(&output.stdout).ok()?;
    let text = |key: &str| said[key].as_str().map(str::to_owned);
    Some(Credentials { user: text("Username")?, password: text("Secret")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dockers_tools_keep_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let auth = STANDARD.encode("ada:pa:ss");
        std::fs::write(&path, json!({ "auths": { "r.example.org:5000": { "auth": auth } } }).to_string()).unwrap();
        let found = find(&path, "r.example.org:5000").unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("ada", "pa:ss"));
        assert!(find(&path, "r.example.org").is_none());
        assert!(!format!("{found:?}").contains("pa:ss"));
    }

    #[test]
    fn only_names_of_programs_are_asked() {
        assert!(ask("../x", "r.example.org").is_none());
        assert!(ask("not-there-at-all", "r.example.org").is_none());
    }
}
