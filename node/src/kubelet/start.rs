//! From a container in a pod's spec to one that the runtime can start.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod, Service};

use super::sources::{Place, Sources};
use super::state::Failure;
use super::{env, resources, volumes};
use crate::controllers::typed;
use crate::runtime::{BindMount, ContainerId, ImageConfig, ImageHandle, PodDns, PodSandbox, Security, StartContainer};

/// Where the files of one pod lie.
#[derive(Debug, Clone)]
pub struct Directories {
    pub pod: PathBuf,
    pub logs: PathBuf,
    /// Held while volumes are written: each container that starts does so, and each change of what is in them.
    writing: Arc<Mutex<()>>,
}

impl Directories {
    pub fn of(root: &Path, pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let (namespace, name, uid) = (typed::namespace(meta), typed::name(meta), typed::uid(meta));
        // Names and uids were checked by the API; a path made from them must hold even if they were not.
        let safe = |text: &str| text.replace(['/', '\0'], "_").replace("..", "__");
        Self {
            pod: root.join("pods").join(safe(uid)),
            logs: root.join("logs").join(format!("{}_{}_{}", safe(namespace), safe(name), safe(uid))),
            writing: Arc::default(),
        }
    }

    pub fn volumes(&self) -> PathBuf {
        self.pod.join("volumes")
    }

    pub fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.logs.join(container).join(format!("{attempt}.log"))
    }

    /// The file behind the container's termination message.
    pub fn last_words(&self, container: &str, attempt: u32) -> PathBuf {
        self.pod.join("last-words").join(format!("{container}-{attempt}"))
    }
}

fn config_error(message: String) -> Failure {
    Failure { reason: "CreateContainerConfigError", message }
}

/// Writes the pod's volumes. Doing it again replaces what has changed.
pub fn write_volumes(
    pod: &Pod,
    directories: &Directories,
    sources: &dyn Sources,
    place: &Place,
) -> Result<(), Failure> {
    // What is read before another has written would be older than what that wrote, so both are done in turn.
    let _writing = directories.writing.lock().unwrap_or_else(PoisonError::into_inner);
    let spec = pod.spec.as_ref();
    let group = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group).and_then(|gid| u32::try_from(gid).ok());
    for volume in spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
        let content = volumes::content(pod, volume, sources, place).map_err(config_error)?;
        volumes::write(&directories.volumes().join(&volume.name), &content, group)
            .map_err(|e| config_error(format!("volume {:?} could not be written: {e}", volume.name)))?;
    }
    Ok(())
}

/// Everything that a start needs, resolved.
#[allow(clippy::too_many_arguments, reason = "each is a different thing that a start is made of")]
pub fn container(
    sandbox: PodSandbox,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    image: &ImageHandle,
    services: &[Service],
    sources: &dyn Sources,
    place: &Place,
    directories: &Directories,
) -> Result<StartContainer, Failure> {
    let spec = pod.spec.as_ref();
    let links = match spec.and_then(|spec| spec.enable_service_links) {
        Some(false) => Vec::new(),
        _ => env::service_links(services),
    };
    let mut variables =
        env::environment(pod, container, &image.config, &links, sources, place).map_err(config_error)?;
    let argv = env::command(container, &image.config, &variables)
        .map_err(|message| Failure { reason: "CreateContainerError", message })?;
    if !variables.iter().any(|(name, _)| name == "HOSTNAME") {
        variables.push(("HOSTNAME".into(), hostname(pod)));
    }
    let security = security(pod, container, &image.config).map_err(config_error)?;
    let known = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut mounts = volumes::mounts(
        &directories.volumes(),
        container.volume_mounts.as_deref().unwrap_or_default(),
        pod,
        |expression| env::expand(expression, known),
    )
    .map_err(config_error)?;
    let words = directories.last_words(&container.name, attempt);
    let made = words.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        std::fs::write(&words, b"")?;
        // Whatever user the container runs as may leave a message.
        std::fs::set_permissions(&words, std::os::unix::fs::PermissionsExt::from_mode(0o666))
    });
    made.map_err(|e| config_error(format!("{} could not be written: {e}", words.display())))?;
    let target = container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into());
    mounts.push(BindMount { source: words, target, read_only: false });
    let log = directories.log(&container.name, attempt);
    log.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .map_err(|e| config_error(format!("the log {} could not be made: {e}", log.display())))?;
    Ok(StartContainer {
        id: ContainerId { pod: sandbox.uid.clone(), name: container.name.clone(), attempt },
        pod: sandbox,
        image: image.clone(),
        argv,
        env: variables,
        working_dir: container
            .working_dir
            .clone()
            .filter(|directory| !directory.is_empty())
            .unwrap_or_else(|| image.config.working_dir.clone()),
        mounts,
        tmpfs: Vec::new(),
        limits: resources::limits(container),
        security,
        tty: container.tty == Some(true),
        log,
    })
}

fn security(pod: &Pod, container: &Container, image: &ImageConfig) -> Result<Security, String> {
    let spec = pod.spec.as_ref();
    let of_pod = spec.and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    if own.and_then(|own| own.privileged) == Some(true) {
        return Err(format!(
            "container {:?} asks to be privileged; this node runs no privileged containers",
            container.name
        ));
    }
    for (asked, what) in [
        (spec.and_then(|spec| spec.host_network), "hostNetwork"),
        (spec.and_then(|spec| spec.host_pid), "hostPID"),
        (spec.and_then(|spec| spec.host_ipc), "hostIPC"),
    ] {
        if asked == Some(true) {
            return Err(format!("the pod asks for {what}; this node gives no pod the machine's own namespaces"));
        }
    }
    let uid = own.and_then(|own| own.run_as_user).or_else(|| of_pod?.run_as_user);
    let gid = own.and_then(|own| own.run_as_group).or_else(|| of_pod?.run_as_group);
    let user = match (uid, gid) {
        (Some(uid), Some(gid)) => Some(format!("{uid}:{gid}")),
        (Some(uid), None) => Some(uid.to_string()),
        (None, Some(gid)) => {
            let user = image.user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
            Some(format!("{user}:{gid}"))
        }
        (None, None) => None,
    };
    let not_root = own.and_then(|own| own.run_as_non_root).or_else(|| of_pod?.run_as_non_root) == Some(true);
    if not_root {
        let name = user.as_deref().unwrap_or(&image.user).split(':').next().unwrap_or_default();
        match name.parse::<u64>() {
            Ok(0) => return Err("container has runAsNonRoot and image will run as root".into()),
            Ok(_) => {}
            Err(_) if name.is_empty() => {
                return Err("container has runAsNonRoot and image will run as root".into());
            }
            Err(_) => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
                ));
            }
        }
    }
    let mut groups: Vec<u32> = of_pod
        .and_then(|context| context.supplemental_groups.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|gid| u32::try_from(*gid).ok())
        .collect();
    groups.extend(of_pod.and_then(|context| context.fs_group).and_then(|gid| u32::try_from(gid).ok()));
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    Ok(Security {
        user,
        groups,
        read_only_root: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        add_capabilities: capabilities.and_then(|all| all.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities.and_then(|all| all.drop.clone()).unwrap_or_default(),
    })
}

/// The pod's host name: its own, or its name cut to a DNS label.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|spec| spec.hostname.as_deref()).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| typed::name(&pod.metadata));
    name[..name.len().min(63)].trim_end_matches(['-', '.']).to_owned()
}

/// The pod as the runtime makes its network.
pub fn sandbox(pod: &Pod, cluster_domain: &str) -> PodSandbox {
    let (namespace, name) = (typed::namespace(&pod.metadata), typed::name(&pod.metadata));
    let spec = pod.spec.clone().unwrap_or_default();
    let config = spec.dns_config.unwrap_or_default();
    let mut dns = match spec.dns_policy.as_deref() {
        Some("None" | "Default") => PodDns::default(),
        _ => PodDns {
            servers: Vec::new(),
            searches: vec![
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ],
            options: vec!["ndots:5".into()],
        },
    };
    dns.servers.extend(config.nameservers.unwrap_or_default());
    dns.searches.extend(config.searches.unwrap_or_default());
    dns.options.extend(config.options.into_iter().flatten().filter_map(|option| {
        let name = option.name?;
        Some(option.value.map_or_else(|| name.clone(), |value| format!("{name}:{value}")))
    }));
    let hosts = spec.host_aliases.into_iter().flatten().map(|alias| (alias.ip, alias.hostnames.unwrap_or_default()));
    let wanted = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok());
    PodSandbox {
        uid: typed::uid(&pod.metadata).to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        hostname: hostname(pod),
        dns,
        hosts: hosts.collect(),
        wanted_ip: wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubelet::env::tests::Two;

    fn image() -> ImageHandle {
        ImageHandle {
            repository: "shop/web".into(),
            digest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
            config: ImageConfig { entrypoint: vec!["serve".into()], user: "app".into(), ..Default::default() },
        }
    }

    fn start(spec: serde_json::Value) -> Result<StartContainer, Failure> {
        let root = tempfile::tempdir().unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
                .unwrap();
        let directories = Directories::of(root.path(), &pod);
        let place = Place::default();
        write_volumes(&pod, &directories, &Two, &place)?;
        let first = &pod.spec.as_ref().unwrap().containers[0];
        container(sandbox(&pod, "cluster.local"), &pod, first, 0, &image(), &[], &Two, &place, &directories)
    }

    #[test]
    fn containers_that_start_together_write_the_volumes_of_their_pod_in_turn() {
        let volumes = json!([{"name": "conf", "configMap": {"name": "conf"}}, {"name": "tmp", "emptyDir": {}}]);
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": [], "volumes": volumes}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        for _ in 0..50 {
            let root = tempfile::tempdir().unwrap();
            let directories = Directories::of(root.path(), &pod);
            let begin = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        begin.wait();
                        let written = write_volumes(&pod, &directories.clone(), &Two, &Place::default());
                        written.map_err(|failure| failure.message).unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn a_start_has_everything_resolved() {
        let start = start(json!({
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "tmp", "emptyDir": {}}],
            "containers": [{"name": "c", "args": ["--x"],
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
                "volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}, {"name": "tmp", "mountPath": "/tmp", "subPath": "a"}]}],
        }))
        .unwrap();
        assert_eq!(start.argv, ["serve", "--x"]);
        assert_eq!(start.security.user.as_deref(), Some("1000"));
        assert_eq!(start.security.groups, [2000]);
        assert!(start.security.read_only_root);
        let mounts: Vec<_> = start.mounts.iter().map(|mount| (mount.target.as_str(), mount.read_only)).collect();
        assert_eq!(mounts, [("/etc/conf", true), ("/tmp", false), ("/dev/termination-log", false)]);
        assert!(start.mounts[1].source.ends_with("tmp/a"));
    }

    #[test]
    fn what_this_node_does_not_give_is_refused_with_a_sentence() {
        for (spec, word) in [
            (json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]}), "privileged"),
            (json!({"hostNetwork": true, "containers": [{"name": "c"}]}), "hostNetwork"),
            (json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}), "non-numeric"),
            (
                json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}, "containers": [{"name": "c"}]}),
                "as root",
            ),
            (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": [{"name": "c"}]}), "hostPath"),
            (
                json!({"containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]}),
                "not declared",
            ),
        ] {
            let failure = start(spec).unwrap_err();
            assert_eq!(failure.reason, "CreateContainerConfigError");
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }

    #[test]
    fn names_are_searched_in_the_cluster_first() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"containers": [], "dnsConfig": {"searches": ["example.org"], "options": [{"name": "ndots", "value": "2"}]}},
        }))
        .unwrap();
        let dns = sandbox(&pod, "cluster.local").dns;
        assert_eq!(dns.searches, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"]);
        assert_eq!(dns.options, ["ndots:5", "ndots:2"]);
    }
}
