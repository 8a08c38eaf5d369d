//! The defaults of pods and of templates for pods.

use serde_json::{Value, json};

use super::{items, set};

/// A pod by itself.
pub(super) fn pod(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "serviceAccountName", json!("default"));
    set(spec, "enableServiceLinks", json!(true));
    self::spec(spec);
    for field in ["containers", "initContainers"] {
        items(spec, field).for_each(requests);
    }
}

/// The template in a controller's spec.
pub(super) fn template(spec: &mut Value) {
    if let Some(spec) = spec.get_mut("template").and_then(|template| template.get_mut("spec")) {
        self::spec(spec);
    }
}

fn spec(spec: &mut Value) {
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "schedulerName", json!("default-scheduler"));
    set(spec, "securityContext", json!({}));
    if let Some(account) = spec.get("serviceAccountName").filter(|account| account.is_string()).cloned() {
        // The old name of the field, which the real API fills as well.
        spec["serviceAccount"] = account;
    }
    let on_host = spec["hostNetwork"] == true;
    for field in ["initContainers", "containers"] {
        items(spec, field).for_each(|c| container(c, on_host));
    }
    items(spec, "volumes").for_each(volume);
}

fn container(container: &mut Value, on_host: bool) {
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    set(container, "resources", json!({}));
    if let Some(image) = container["image"].as_str() {
        let policy = if moves(image) { "Always" } else { "IfNotPresent" };
        set(container, "imagePullPolicy", json!(policy));
    }
    for port in items(container, "ports") {
        set(port, "protocol", json!("TCP"));
        if on_host {
            let number = port["containerPort"].clone();
            set(port, "hostPort", number);
        }
    }
    for variable in items(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            set(field, "apiVersion", json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            set(probe, "timeoutSeconds", json!(1));
            set(probe, "periodSeconds", json!(10));
            set(probe, "successThreshold", json!(1));
            set(probe, "failureThreshold", json!(3));
            action(probe);
        }
    }
    for hook in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        if let Some(hook) = container.pointer_mut(hook).filter(|hook| hook.is_object()) {
            action(hook);
        }
    }
}

/// What a probe or hook does.
fn action(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet").filter(|get| get.is_object()) {
        set(get, "path", json!("/"));
        set(get, "scheme", json!("HTTP"));
    }
    if let Some(grpc) = handler.get_mut("grpc").filter(|grpc| grpc.is_object()) {
        set(grpc, "service", json!(""));
    }
}

fn volume(volume: &mut Value) {
    let map = volume.as_object();
    if map.is_some_and(|map| map.iter().all(|(key, value)| key == "name" || value.is_null())) {
        volume["emptyDir"] = json!({});
    }
    for (source, field, value) in [
        ("secret", "defaultMode", json!(420)),
        ("configMap", "defaultMode", json!(420)),
        ("downwardAPI", "defaultMode", json!(420)),
        ("projected", "defaultMode", json!(420)),
        ("hostPath", "type", json!("")),
    ] {
        if let Some(source) = volume.get_mut(source).filter(|source| source.is_object()) {
            set(source, field, value);
        }
    }
}

/// Whether an image reference may mean another image tomorrow: no digest, and no tag or `latest`.
fn moves(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// What a container may use at most is what it asks for, unless it says.
fn requests(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object().cloned() else { return };
    set(&mut container["resources"], "requests", json!({}));
    for (what, amount) in limits {
        set(&mut container["resources"]["requests"], &what, amount);
    }
}

/// The class of a pod by what its containers ask for and may use.
pub(super) fn quality(spec: &Value) -> &'static str {
    let containers =
        ["containers", "initContainers"].into_iter().flat_map(|f| spec[f].as_array().into_iter().flatten());
    let (mut any, mut all) = (false, true);
    for container in containers {
        let resources = &container["resources"];
        for what in ["cpu", "memory"] {
            let (limit, request) = (&resources["limits"][what], &resources["requests"][what]);
            any |= !limit.is_null() || !request.is_null();
            all &= !limit.is_null() && (request.is_null() || request == limit);
        }
    }
    match (any, all) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_move_are_always_pulled() {
        for (image, expected) in [
            ("redis", true),
            ("redis:latest", true),
            ("localhost:5000/redis", true),
            ("localhost:5000/redis:7", false),
            ("redis@sha256:0000", false),
            ("redis:7", false),
        ] {
            assert_eq!(moves(image), expected, "{image}");
        }
    }

    #[test]
    fn defaults_are_stable() {
        let mut once = json!({"spec": {"containers": [{
            "name": "a", "image": "b", "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        }], "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]}});
        pod(&mut once);
        let mut twice = once.clone();
        pod(&mut twice);
        assert_eq!(once, twice);
        assert_eq!(once["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"], "/");
        assert_eq!(once["spec"]["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(quality(&once["spec"]), "Guaranteed");
    }
}
