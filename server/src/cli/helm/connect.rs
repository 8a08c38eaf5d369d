//! The way to a cluster: kubeconfig, context, namespace, and what an operation is carried out with.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use data_encoding::HEXLOWER;
use helm::{Cluster, Driver, Helm, Life, Owner, Say, Storage};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

use super::shared::{Flags, Shared};

use crate::{
    clock,
    fault::{Class, Fault, Result, chain},
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);

/// The flags that name a cluster and a namespace, as every command takes them.
pub type Target = Shared<TargetFlags>;

impl Flags for TargetFlags {
    const ONE: &'static str = "namespace";
}

// The flags that name a cluster and a namespace.
#[derive(Args)]
pub struct TargetFlags {
    /// The namespace of the release
    #[arg(short, long, global = true, env = "HELM_NAMESPACE", hide_env = true)]
    pub namespace: Option<String>,
    /// The kubeconfig file
    #[arg(long, global = true, value_name = "FILE", env = "KUBECONFIG", hide_env = true)]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", env = "HELM_KUBECONTEXT", hide_env = true)]
    kube_context: Option<String>,
    /// The cluster's address, in place of the kubeconfig's
    #[arg(long, global = true, value_name = "URL", env = "HELM_KUBEAPISERVER", hide_env = true)]
    kube_apiserver: Option<String>,
    /// A bearer token for it
    #[arg(long, global = true, value_name = "TOKEN", env = "HELM_KUBETOKEN", hide_env = true, hide_env_values = true)]
    kube_token: Option<String>,
    /// Certificates of the authorities that vouch for it
    #[arg(long, global = true, value_name = "FILE", env = "HELM_KUBECAFILE", hide_env = true)]
    kube_ca_file: Option<PathBuf>,
    /// The name that its certificate must have
    #[arg(long, global = true, value_name = "NAME", env = "HELM_KUBETLS_SERVER_NAME", hide_env = true)]
    kube_tls_server_name: Option<String>,
    /// Do not ask who it is
    #[arg(long, global = true)]
    kube_insecure_skip_tls_verify: bool,
    /// Act as this user
    #[arg(long, global = true, value_name = "NAME", env = "HELM_KUBEASUSER", hide_env = true)]
    kube_as_user: Option<String>,
    /// Act as a member of this group; may be repeated
    #[arg(long, global = true, value_name = "NAME", env = "HELM_KUBEASGROUPS", hide_env = true, value_delimiter = ',')]
    kube_as_group: Vec<String>,
    /// Where releases are kept: secret or configmap
    #[arg(long, global = true, value_name = "DRIVER", env = "HELM_DRIVER", default_value = "secret", hide = true)]
    driver: String,
    /// After how long without a word an unfinished operation of another tool counts as left behind
    #[arg(long, global = true, value_name = "DURATION", value_parser = super::flags::duration, default_value = "15m")]
    abandoned_after: Duration,
}

impl TargetFlags {
    /// The namespace without asking the cluster or reading more than the kubeconfig.
    pub fn namespace(&self) -> String {
        let read = || {
            let config = self.kubeconfig().ok()?;
            let name = self.kube_context.as_ref().or(config.current_context.as_ref())?;
            let named = config.contexts.iter().find(|context| context.name == *name)?;
            named.context.as_ref()?.namespace.clone()
        };
        self.namespace.clone().or_else(read).filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
    }

    fn kubeconfig(&self) -> Result<Kubeconfig> {
        let wrong = |error: &dyn std::error::Error| {
            Fault::new(Class::Unavailable, format!("kubernetes cluster unreachable: {error}")).hint(
                "name a kubeconfig with --kubeconfig or KUBECONFIG; `shipway up` writes one into its data directory",
            )
        };
        let Some(list) = &self.kubeconfig else { return Kubeconfig::read().map_err(|error| wrong(&error)) };
        let mut merged = Kubeconfig::default();
        let paths = std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty());
        let all: Vec<PathBuf> = paths.collect();
        for path in &all {
            // As with kubectl: of several files some may be missing.
            if all.len() > 1 && !path.exists() {
                continue;
            }
            let read = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
            merged = merged.merge(read).map_err(|error| wrong(&error))?;
        }
        Ok(merged)
    }

    /// The variables that say which cluster is meant, and what they say. The token is not shown.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let file = self.kube_ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let token = self.kube_token.as_ref().map(|_| "xxxxx".to_owned()).unwrap_or_default();
        vec![
            ("HELM_DRIVER", self.driver.clone()),
            ("HELM_KUBEAPISERVER", text(&self.kube_apiserver)),
            ("HELM_KUBEASGROUPS", self.kube_as_group.join(",")),
            ("HELM_KUBEASUSER", text(&self.kube_as_user)),
            ("HELM_KUBECAFILE", file),
            ("HELM_KUBECONTEXT", text(&self.kube_context)),
            ("HELM_KUBETLS_SERVER_NAME", text(&self.kube_tls_server_name)),
            ("HELM_KUBETOKEN", token),
            ("HELM_NAMESPACE", self.namespace()),
        ]
    }

    /// What the flags say goes before what is written down.
    fn said(&self, config: &mut Kubeconfig) {
        let wanted = self.kube_context.clone().or_else(|| config.current_context.clone());
        let known = wanted.as_ref().and_then(|name| config.contexts.iter().find(|context| context.name == *name));
        let found = known.and_then(|context| context.context.clone());
        if found.is_none() && (self.kube_context.is_some() || self.kube_apiserver.is_none()) {
            return;
        }
        let context = found.unwrap_or_default();
        const FLAGS: &str = "of-the-flags";
        let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let mut cluster = cluster.and_then(|named| named.cluster.clone()).unwrap_or_default();
        let user = context.user.as_ref().and_then(|user| config.auth_infos.iter().find(|known| known.name == *user));
        let mut user = user.and_then(|named| named.auth_info.clone()).unwrap_or_default();
        cluster.server = self.kube_apiserver.clone().or(cluster.server);
        if let Some(path) = &self.kube_ca_file {
            cluster.certificate_authority = Some(path.display().to_string());
            cluster.certificate_authority_data = None;
        }
        if self.kube_insecure_skip_tls_verify {
            cluster.insecure_skip_tls_verify = Some(true);
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
        cluster.tls_server_name = self.kube_tls_server_name.clone().or(cluster.tls_server_name);
        if let Some(token) = &self.kube_token {
            user.token = Some(token.clone().into());
            user.token_file = None;
        }
        user.impersonate = self.kube_as_user.clone().or(user.impersonate);
        let groups: Vec<String> = self.kube_as_group.iter().filter(|group| !group.is_empty()).cloned().collect();
        if !groups.is_empty() {
            user.impersonate_groups = Some(groups);
        }
        let context = kube::config::Context { cluster: FLAGS.to_owned(), user: Some(FLAGS.to_owned()), ..context };
        let name = wanted.unwrap_or_else(|| FLAGS.to_owned());
        config.contexts.retain(|known| known.name != name);
        config.contexts.push(kube::config::NamedContext {
            name: name.clone(),
            context: Some(context),
            ..Default::default()
        });
        config.clusters.push(kube::config::NamedCluster {
            name: FLAGS.to_owned(),
            cluster: Some(cluster),
            ..Default::default()
        });
        config.auth_infos.push(kube::config::NamedAuthInfo {
            name: FLAGS.to_owned(),
            auth_info: Some(user),
            ..Default::default()
        });
        config.current_context = Some(name);
    }

    /// The cluster that is meant; nothing is asked of it yet.
    pub async fn cluster(&self) -> Result<Cluster> {
        let wrong = |text: String| {
            Fault::new(Class::Unavailable, format!("kubernetes cluster unreachable: {text}"))
                .hint(super::flags::UNREACHABLE)
        };
        let options = KubeConfigOptions { context: self.kube_context.clone(), ..KubeConfigOptions::default() };
        let given = match self.kubeconfig() {
            // An address is enough.
            Err(_) if self.kube_apiserver.is_some() => Ok(Kubeconfig::default()),
            other => other,
        };
        let mut config = match given {
            Ok(mut kubeconfig) => {
                self.said(&mut kubeconfig);
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(chain(&error)))?
            }
            // Inside of a pod there is none.
            Err(fault) if self.kubeconfig.is_none() => Config::incluster().map_err(|_| fault)?,
            Err(fault) => return Err(fault),
        };
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = None;
        let address = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| wrong(chain(&error)))?;
        Ok(Cluster::at(client, &address))
    }

    /// Everything that operations need; the first Ctrl-C stops them, which is written down.
    pub async fn helm(&self, release: &str) -> Result<Helm> {
        let driver = Driver::parse(&self.driver).map_err(super::flags::fault)?;
        let cluster = self.cluster().await?;
        Ok(Helm {
            releases: Storage::new(cluster.clone(), driver, &self.namespace()),
            cluster,
            clock: clock::system(),
            owner: Owner { id: own_id(), alive: Arc::new(alive) },
            patience: self.abandoned_after,
            tell: Arc::new(tell),
            stop: stopped(release),
        })
    }
}

impl std::fmt::Debug for TargetFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

fn tell(what: Say) {
    match what {
        Say::Warning(text) => super::warned(format!("WARNING: {text}")),
        Say::Log(bytes) => {
            // Nobody reads it: nothing is lost.
            let _ = std::io::stderr().write_all(&bytes);
        }
    }
}

fn stopped(release: &str) -> CancellationToken {
    let stop = CancellationToken::new();
    let (asked, release) = (stop.clone(), release.to_owned());
    tokio::spawn(async move {
        let terminated = async {
            use tokio::signal::unix::{SignalKind, signal};
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
        super::warned(format!("Release {release} has been cancelled."));
        asked.cancel();
        // Once more, and nothing is waited for: the next command goes on from what is written down.
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    stop
}

/// Boot, process namespace, process, and when it started: what tells processes of this machine apart.
fn identity(process: &str) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    // The name in parentheses may hold anything; the start is the 22nd field, the state the 3rd.
    let rest: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    if matches!(rest.first(), Some(&"Z" | &"X")) {
        return None;
    }
    let (number, start) = (stat.split(' ').next()?, rest.get(19)?);
    Some(format!("{}:{space}:{number}:{start}", boot.trim()))
}

fn own_id() -> String {
    identity("self").unwrap_or_else(|| {
        let mut bytes = [0; 16];
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        HEXLOWER.encode(&bytes)
    })
}

/// What is known of the process that an id names.
fn alive(id: &str) -> Life {
    let Some(own) = identity("self") else { return Life::Unknown };
    let parts = |id: &str| id.split(':').map(str::to_owned).collect::<Vec<_>>();
    let (own, other) = (parts(&own), parts(id));
    if other.len() != 4 || own[..2] != other[..2] || !other[2].bytes().all(|byte| byte.is_ascii_digit()) {
        return Life::Unknown;
    }
    if identity(&other[2]).as_deref() == Some(id) { Life::Alive } else { Life::Gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart() {
        let own = own_id();
        assert_eq!(alive(&own), Life::Alive);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = identity(&child.id().to_string()).unwrap();
        assert_eq!(alive(&id), Life::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(alive(&id), Life::Gone);
        assert_eq!(alive("of:another:1:machine"), Life::Unknown);
        assert_eq!(alive(""), Life::Unknown);
    }
}
