//! The environment and the command of a container.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod, Service};

use super::sources::{self, Place, Sources};
use crate::controllers::typed;
use crate::runtime::ImageConfig;

/// The variables of a container in their order; a later one of the same name has replaced the earlier. An error says which
/// variable cannot be had and why.
pub fn environment(
    pod: &Pod,
    container: &Container,
    image: &ImageConfig,
    services: &[(String, String)],
    sources: &dyn Sources,
    place: &Place,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Ordered::default();
    for (name, value) in image.env.iter().chain(services) {
        env.set(name, value.clone());
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (what, name, optional, found) = if let Some(map) = &from.config_map_ref {
            ("configmap", &map.name, map.optional, sources.config_map(&map.name))
        } else if let Some(secret) = &from.secret_ref {
            ("secret", &secret.name, secret.optional, sources.secret(&secret.name))
        } else {
            continue;
        };
        let Some(found) = found else {
            if optional == Some(true) {
                continue;
            }
            return Err(format!("{what} {name:?} not found"));
        };
        for (key, value) in found {
            let name = format!("{prefix}{key}");
            if is_name(&name) {
                env.set(&name, String::from_utf8_lossy(&value).into_owned());
            }
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, variable, &env, sources, place)? {
            env.set(&variable.name, value);
        }
    }
    Ok(env.list)
}

#[derive(Default)]
struct Ordered {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Ordered {
    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|at| self.list[*at].1.as_str())
    }
}

/// Variable names that Kubernetes takes from a map: anything printable but `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && c != '=')
}

fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    env: &Ordered,
    sources: &dyn Sources,
    place: &Place,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, |name| env.get(name).map(str::to_owned))));
    };
    let EnvVarSource { config_map_key_ref, secret_key_ref, field_ref, resource_field_ref, .. } = from;
    if let Some(field) = field_ref {
        let found = sources::field(pod, place, &field.field_path);
        return found.map(Some).ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path));
    }
    if let Some(field) = resource_field_ref {
        let divisor = field.divisor.as_ref().map(|divisor| divisor.0.as_str());
        let name = field.container_name.as_deref();
        return Ok(Some(sources::resource(pod, Some(container), name, &field.resource, divisor)));
    }
    let (what, name, key, optional, map) = if let Some(from) = config_map_key_ref {
        ("configmap", &from.name, &from.key, from.optional, sources.config_map(&from.name))
    } else if let Some(from) = secret_key_ref {
        ("secret", &from.name, &from.key, from.optional, sources.secret(&from.name))
    } else {
        return Err(format!("the source of the variable {} is not supported", variable.name));
    };
    let optional = optional == Some(true);
    match map {
        None if optional => Ok(None),
        None => Err(format!("{what} {name:?} not found")),
        Some(map) => match map.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {key} in {what} {}/{name}", typed::namespace(&pod.metadata))),
        },
    }
}

/// Replaces `$(NAME)` where the name is known; `$$` is a plain `$`.
pub fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

/// The program and its arguments: the pod's `command` replaces the image's entry point and arguments, `args` the arguments.
pub fn command(container: &Container, image: &ImageConfig, env: &[(String, String)]) -> Result<Vec<String>, String> {
    let expanded = |list: &Option<Vec<String>>| {
        list.as_ref().filter(|list| !list.is_empty()).map(|list| {
            let known = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            list.iter().map(|text| expand(text, known)).collect::<Vec<String>>()
        })
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let argv = match (command, args) {
        (Some(command), args) => [command, args.unwrap_or_default()].concat(),
        (None, Some(args)) => [image.entrypoint.clone(), args].concat(),
        (None, None) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    };
    if argv.is_empty() {
        Err("no command specified: neither the pod nor the image says what to run".into())
    } else {
        Ok(argv)
    }
}

/// The variables that tell a container where the Services of its namespace are.
pub fn service_links(services: &[Service]) -> Vec<(String, String)> {
    let mut env = BTreeMap::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let name = shout(typed::name(&service.metadata));
        let mut first = true;
        for port in spec.ports.iter().flatten() {
            let number = port.port;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{ip}:{number}", protocol.to_lowercase());
            if first {
                env.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
                env.insert(format!("{name}_SERVICE_PORT"), number.to_string());
                env.insert(format!("{name}_PORT"), url.clone());
                first = false;
            }
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                env.insert(format!("{name}_SERVICE_PORT_{}", shout(port_name)), number.to_string());
            }
            let prefix = format!("{name}_PORT_{number}_{protocol}");
            env.insert(prefix.clone(), url);
            env.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            env.insert(format!("{prefix}_PORT"), number.to_string());
            env.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    env.into_iter().collect()
}

fn shout(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// One ConfigMap and one Secret, both with the keys `a` and `b`.
    pub struct Two;

    impl Sources for Two {
        fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            (name == "conf").then(|| [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())].into())
        }

        fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            (name == "hidden").then(|| [("a".into(), b"s1".to_vec()), ("b".into(), b"s2".to_vec())].into())
        }
    }

    fn pod(container: serde_json::Value) -> Pod {
        let object = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x", "t": "a \"b\""}},
            "spec": {"containers": [container]},
        });
        serde_json::from_value(object).unwrap()
    }

    fn resolve(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod = pod(container);
        let image = ImageConfig {
            env: vec![("PATH".into(), "/bin".into()), ("X".into(), "image".into())],
            ..Default::default()
        };
        let place = Place { node: "here".into(), host_ip: "192.0.2.1".into(), pod_ip: "10.0.0.9".into() };
        environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &image, &[], &Two, &place)
    }

    fn get<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn every_source_is_read_and_later_ones_win() {
        let env = resolve(json!({
            "name": "c",
            "resources": {"limits": {"memory": "64Mi"}},
            "envFrom": [{"configMapRef": {"name": "conf"}, "prefix": "C_"}, {"secretRef": {"name": "gone", "optional": true}}],
            "env": [
                {"name": "X", "value": "pod"},
                {"name": "Y", "value": "$(X)-$(C_a)-$(NONE)-$$(X)-$"},
                {"name": "Z", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "b"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "NOT", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "zz", "optional": true}}},
            ],
        }))
        .unwrap();
        let expected = [
            ("PATH", "/bin"),
            ("X", "pod"),
            ("C_b", "2"),
            ("Y", "pod-1-$(NONE)-$(X)-$"),
            ("Z", "s2"),
            ("IP", "10.0.0.9"),
            ("APP", "x"),
            ("MEM", "64"),
        ];
        for (name, value) in expected {
            assert_eq!(get(&env, name), Some(value), "{name}");
        }
        assert_eq!(get(&env, "NOT"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let from =
            |source: serde_json::Value| resolve(json!({"name": "c", "env": [{"name": "A", "valueFrom": source}]}));
        let error = from(json!({"configMapKeyRef": {"name": "conf", "key": "zz"}})).unwrap_err();
        assert_eq!(error, "couldn't find key zz in configmap ns/conf");
        let error = from(json!({"secretKeyRef": {"name": "gone", "key": "a"}})).unwrap_err();
        assert_eq!(error, "secret \"gone\" not found");
        assert!(from(json!({"fieldRef": {"fieldPath": "spec.nope"}})).is_err());
    }

    #[test]
    fn command_and_args_replace_what_the_image_says() {
        let image = ImageConfig { entrypoint: vec!["e".into()], cmd: vec!["c".into()], ..Default::default() };
        let run = |container: serde_json::Value| {
            let container: Container = serde_json::from_value(container).unwrap();
            command(&container, &image, &[("N".into(), "v".into())]).unwrap().join(" ")
        };
        assert_eq!(run(json!({"name": "c"})), "e c");
        assert_eq!(run(json!({"name": "c", "args": ["$(N)"]})), "e v");
        assert_eq!(run(json!({"name": "c", "command": ["x"]})), "x");
        assert_eq!(run(json!({"name": "c", "command": ["x"], "args": ["y"]})), "x y");
        let nothing: Container = serde_json::from_value(json!({"name": "c"})).unwrap();
        assert!(command(&nothing, &ImageConfig::default(), &[]).is_err());
    }

    #[test]
    fn services_are_announced_in_the_environment() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]},
        }))
        .unwrap();
        let env = service_links(&[service]);
        assert_eq!(get(&env, "MY_DB_SERVICE_HOST"), Some("10.96.0.7"));
        assert_eq!(get(&env, "MY_DB_SERVICE_PORT_SQL"), Some("5432"));
        assert_eq!(get(&env, "MY_DB_PORT_5432_TCP_ADDR"), Some("10.96.0.7"));
    }
}
