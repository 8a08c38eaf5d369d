//! The built-in node, on the rooms of this server.

use std::{net::IpAddr, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use node::{
    admission::Admission,
    node::{Node, NodeConfig},
    objects::{Cidr, Objects, Scope, resource},
    runtime::{Runtime, Sandboxed},
};
use records::Digest;
use sandbox::Sandbox;
use serde_json::Value;
use store::Log;

use super::images::PodImages;
use crate::{
    clock::Clock,
    config::Config,
    fault::{Class, Fault, Result},
    ui::PodRow,
};

/// Starts the node and writes the kubeconfig of its administrator into the data directory.
pub async fn start(
    config: &Config,
    log: Arc<dyn Log>,
    sandbox: &Sandbox,
    images: PodImages,
    admission: Arc<dyn Admission>,
    clock: Clock,
) -> Result<Node> {
    let network = sandbox.network().await.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    let services = network.services();
    let node_config = NodeConfig {
        listen: config.node_listen,
        host_ip: Some(IpAddr::V4(network.gateway())),
        pod_cidr: network.pods().to_string(),
        services: Cidr { network: services.address, prefix: services.prefix },
        ..NodeConfig::new("shipway", config.data.join("node"))
    };
    let runtime: Arc<dyn Runtime> = Arc::new(Sandboxed::new(sandbox.clone(), Arc::new(images)));
    let node = Node::start(node_config, log, runtime, admission, clock).await;
    let node = node.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    network.set_resolver(Arc::new(node.names()));
    write_private(&config.data.join("kubeconfig"), node.kubeconfig())?;
    Ok(node)
}

/// A file that only its owner reads, replaced as a whole.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let failed = |e: std::io::Error| Fault::new(Class::Unavailable, format!("cannot write {}: {e}", path.display()));
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}

/// Container, repository and digest of everything that a pod runs.
pub fn pod_images(objects: &Objects, namespace: &str, name: &str) -> Result<Vec<(String, String, Digest)>> {
    let missing = || Fault::not_found(format!("there is no pod {namespace}/{name}"));
    let pod = objects.find(&resource::PODS, namespace, name).ok_or_else(missing)?;
    let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    let image = |status: &Value| {
        let (repository, digest) = status["imageID"].as_str()?.rsplit_once('@')?;
        Some((status["name"].as_str()?.to_owned(), repository.to_owned(), digest.parse().ok()?))
    };
    let images: Vec<_> = statuses.iter().filter_map(image).collect();
    if images.is_empty() {
        return Err(Fault::new(Class::Conflict, format!("pod {namespace}/{name} runs nothing yet")));
    }
    Ok(images)
}

/// The pods of a namespace.
pub fn pods(objects: &Objects, namespace: &str) -> Vec<PodRow> {
    let (pods, _) = objects.list(&resource::PODS, &Scope::namespace(namespace));
    let row = |pod: &Arc<Value>| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let images = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let going = !pod["metadata"]["deletionTimestamp"].is_null();
        PodRow {
            namespace: namespace.to_owned(),
            name: text(&pod["metadata"]["name"]),
            phase: if going { "Terminating".into() } else { text(&pod["status"]["phase"]) },
            ready: conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
            image: images.iter().map(|container| text(&container["image"])).collect::<Vec<_>>().join(", "),
        }
    };
    pods.iter().map(row).collect()
}
