//! The parts of services that are lists of small maps: devices, hooks, limits of block devices, models, reservations.

use serde_json::{Map, Value, json};

use super::canonical::{list, size, text, words};

/// Writes their long forms.
pub fn expand(service: &mut Map<String, Value>) {
    devices(service);
    for key in ["post_start", "pre_stop", "pre_start"] {
        let hooks = service.get_mut(key).and_then(Value::as_array_mut);
        hooks.into_iter().flatten().filter_map(Value::as_object_mut).for_each(command);
    }
    let watched = service.get_mut("develop").and_then(|develop| develop.get_mut("watch")).and_then(Value::as_array_mut);
    for watch in watched.into_iter().flatten().filter_map(Value::as_object_mut) {
        list(watch, "ignore");
        list(watch, "include");
        watch.get_mut("exec").and_then(Value::as_object_mut).into_iter().for_each(command);
    }
    let options = service.get_mut("provider").and_then(|provider| provider.get_mut("options"));
    if let Some(Value::Object(options)) = options {
        for value in options.values_mut() {
            *value = match value.take() {
                Value::Array(several) => several.iter().map(text).collect(),
                one => json!([text(&one)]),
            };
        }
    }
    if let Some(Value::Object(limits)) = service.get_mut("blkio_config") {
        for key in ["device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops"] {
            let limits = limits.get_mut(key).and_then(Value::as_array_mut);
            limits.into_iter().flatten().filter_map(Value::as_object_mut).for_each(|limit| size(limit, "rate"));
        }
    }
    if let Some(Value::Array(names)) = service.get("models") {
        let names = names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), Value::Null)).collect();
        service.insert("models".into(), Value::Object(names));
    }
    if service.get("gpus").and_then(Value::as_str) == Some("all") {
        service.insert("gpus".into(), json!([{ "count": -1 }]));
    }
    let reserved = service.get_mut("deploy").and_then(|deploy| deploy.get_mut("resources"));
    let reserved = reserved.and_then(|resources| resources.get_mut("reservations")?.get_mut("devices"));
    reserved.into_iter().for_each(requests);
    service.get_mut("gpus").into_iter().for_each(requests);
}

fn command(hook: &mut Map<String, Value>) {
    if let Some(Value::String(line)) = hook.get("command")
        && let Some(words) = words(line)
    {
        hook.insert("command".into(), words.into());
    }
}

/// `source[:target[:permissions]]`; a name of the Container Device Interface (`vendor/class=name`) stays one.
fn devices(service: &mut Map<String, Value>) {
    for device in service.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
        let Value::String(short) = device else { continue };
        let parts: Vec<&str> = short.split(':').collect();
        let (source, target, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, target] => (source, target, "rwm"),
            [source, target, permissions] => (source, target, permissions),
            _ => continue,
        };
        *device = json!({ "source": source, "target": target, "permissions": permissions });
    }
}

/// How many devices: all of them where neither a number nor which ones is said.
fn requests(all: &mut Value) {
    for request in all.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        match request.get("count").map(text).as_deref() {
            Some("all") => drop(request.insert("count".into(), (-1).into())),
            Some(number) => {
                let number = number.parse::<i64>();
                number.into_iter().for_each(|number| drop(request.insert("count".into(), number.into())));
            }
            None if !request.contains_key("device_ids") => drop(request.insert("count".into(), (-1).into())),
            None => {}
        }
        if let Some(Value::Object(options)) = request.get_mut("options") {
            options.values_mut().for_each(|value| *value = text(value).into());
        }
    }
}

/// What no service uses is left out, as it is where containers are started.
pub fn used(root: &mut Map<String, Value>) {
    for kind in ["networks", "volumes", "secrets", "configs", "models"] {
        let mut names: Vec<String> = Vec::new();
        for service in root.get("services").and_then(Value::as_object).into_iter().flat_map(Map::values) {
            match service.get(kind) {
                Some(Value::Object(map)) => names.extend(map.keys().cloned()),
                Some(Value::Array(items)) => {
                    let source = |item: &Value| item.as_str().or_else(|| item["source"].as_str()).map(str::to_owned);
                    names.extend(items.iter().filter_map(source));
                }
                _ => {}
            }
            for hook in service.get("pre_start").and_then(Value::as_array).into_iter().flatten() {
                let mounts = hook.get(kind).and_then(Value::as_array).into_iter().flatten();
                names.extend(mounts.filter_map(|item| item["source"].as_str()).map(str::to_owned));
            }
            if kind == "secrets" {
                let build = service.get("build").and_then(|build| build.get("secrets")).and_then(Value::as_array);
                let source = |item: &Value| item.as_str().or_else(|| item["source"].as_str()).map(str::to_owned);
                names.extend(build.into_iter().flatten().filter_map(source));
            }
        }
        if let Some(Value::Object(all)) = root.get_mut(kind) {
            all.retain(|name, _| names.contains(name));
            if all.is_empty() {
                root.remove(kind);
            }
        }
    }
}

/// Services that wait for each other, in the order of the circle.
pub fn circle(services: &Map<String, Value>) -> Option<Vec<String>> {
    let needs = |name: &str| -> Vec<String> {
        let needs = services.get(name).and_then(|service| service.get("depends_on")).and_then(Value::as_object);
        needs.into_iter().flat_map(Map::keys).filter(|other| services.contains_key(*other)).cloned().collect()
    };
    // What waits for nobody that is left is taken away; whoever stays is in a circle, or waits for one.
    let mut left: Vec<(String, Vec<String>)> = services.keys().map(|name| (name.clone(), needs(name))).collect();
    loop {
        let before = left.len();
        let names: Vec<String> = left.iter().map(|(name, _)| name.clone()).collect();
        left.retain(|(_, needs)| needs.iter().any(|other| names.contains(other)));
        if left.len() == before {
            break;
        }
    }
    let mut way = vec![left.first()?.0.clone()];
    loop {
        let here = left.iter().find(|(name, _)| Some(name) == way.last())?;
        let next = here.1.iter().find(|other| left.iter().any(|(name, _)| name == *other))?;
        if let Some(at) = way.iter().position(|name| name == next) {
            way.drain(..at);
            way.push(next.clone());
            return Some(way);
        }
        way.push(next.clone());
    }
}
