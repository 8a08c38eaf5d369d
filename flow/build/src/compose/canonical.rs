//! The long form of everything that has a short one, with the defaults written out: what `docker compose config` prints.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, json};

use super::{parts, place};

/// What the forms depend on.
pub struct Canonical<'a> {
    pub project: &'a str,
    pub directory: &'a Path,
    pub variables: &'a BTreeMap<String, String>,
    /// Services that the files have, also those of profiles that are not asked for.
    pub services: &'a [String],
}

/// Keys of a service that are lists of texts, and may be one text.
const LISTS: [&str; 7] = ["dns", "dns_search", "dns_opt", "tmpfs", "expose", "env_file", "group_add"];
/// Keys that are true or false, also in the words of YAML 1.1.
const FLAGS: [&str; 10] = [
    "attach",
    "init",
    "no_cache",
    "oom_kill_disable",
    "privileged",
    "pull",
    "read_only",
    "stdin_open",
    "tty",
    "use_api_socket",
];
/// Keys that are sizes in bytes.
const SIZES: [&str; 5] = ["mem_limit", "mem_reservation", "mem_swappiness", "memswap_limit", "shm_size"];
/// Maps of texts.
const TEXTS: [&str; 3] = ["labels", "annotations", "sysctls"];

impl Canonical<'_> {
    /// Rewrites a model whose files have been merged. What has a form that it does not know is left as it is.
    ///
    /// # Errors
    /// A service that names what the project does not have.
    pub fn apply(&self, model: &mut Value) -> Result<(), String> {
        let Some(root) = model.as_object_mut() else { return Ok(()) };
        for kind in ["networks", "volumes", "secrets", "configs"] {
            if let Some(Value::Object(all)) = root.get_mut(kind) {
                all.iter_mut().for_each(|(key, one)| self.named(key, one));
            }
        }
        let mut default = false;
        if let Some(Value::Object(services)) = root.get_mut("services") {
            for service in services.values_mut() {
                if service.is_null() {
                    *service = json!({});
                }
                if let Value::Object(service) = service {
                    self.service(service);
                    default |= service.get("networks").is_some_and(|networks| networks.get("default").is_some());
                }
            }
        }
        if default {
            let networks = root.entry("networks").or_insert_with(|| json!({}));
            if let Value::Object(networks) = networks {
                self.named("default", networks.entry("default").or_insert(Value::Null));
            }
        }
        self.consistent(root)
    }

    /// A network, volume, secret or configuration of the project.
    fn named(&self, key: &str, one: &mut Value) {
        if one.is_null() {
            *one = json!({});
        }
        let Value::Object(one) = one else { return };
        let external = match one.get("external") {
            Some(Value::Object(external)) => {
                let name = external.get("name").cloned();
                one.insert("external".into(), true.into());
                name.into_iter().for_each(|name| drop(one.insert("name".into(), name)));
                true
            }
            Some(external) => *external == Value::Bool(true),
            None => false,
        };
        one.retain(|key, value| key != "name" || *value != "");
        texts(one, "labels", "");
        texts(one, "driver_opts", "");
        if let Some(Value::Object(options)) = one.get_mut("driver_opts")
            && options.get("o").and_then(Value::as_str).is_some_and(|how| how.split(',').any(|how| how == "bind"))
            && let Some(Value::String(device)) = options.get_mut("device")
        {
            *device = place(self.directory, self.variables, device);
        }
        let name = if external { key.to_owned() } else { format!("{}_{key}", self.project) };
        one.entry("name").or_insert_with(|| name.into());
    }

    fn service(&self, service: &mut Map<String, Value>) {
        service.retain(|_, value| !value.is_null() && *value != "");
        parts::expand(service);
        for key in LISTS {
            list(service, key);
        }
        for key in SIZES {
            size(service, key);
        }
        flags(service);
        number(service, "cpus");
        if service.get("pull_policy").and_then(Value::as_str) == Some("if_not_present") {
            service.insert("pull_policy".into(), "missing".into());
        }
        if let Some(Value::Object(logging)) = service.get_mut("logging") {
            texts(logging, "options", "");
        }
        if let Some(Value::Object(deploy)) = service.get_mut("deploy") {
            deployed(deploy);
        }
        for key in TEXTS {
            texts(service, key, "");
        }
        if let Some(Value::Object(environment)) = service.get_mut("environment") {
            for (name, value) in environment.iter_mut() {
                match value {
                    Value::Null => {
                        self.variables.get(name).into_iter().for_each(|found| *value = found.clone().into());
                    }
                    value => *value = text(value).into(),
                }
            }
        }
        for key in ["command", "entrypoint"] {
            if let Some(Value::String(line)) = service.get(key)
                && let Some(words) = words(line)
            {
                service.insert(key.into(), words.into());
            }
        }
        if let Some(files) = service.get_mut("env_file").and_then(Value::as_array_mut) {
            files.iter_mut().filter(|file| file.is_string()).for_each(|file| *file = json!({ "path": file.take() }));
        }
        if let Some(Value::Object(health)) = service.get_mut("healthcheck") {
            if let Some(Value::String(test)) = health.get("test") {
                let test = json!(["CMD-SHELL", test]);
                health.insert("test".into(), test);
            }
            for key in ["interval", "timeout", "start_period", "start_interval"] {
                duration(health, key);
            }
        }
        duration(service, "stop_grace_period");
        hosts(service);
        if let Some(ports) = service.get_mut("ports").and_then(Value::as_array_mut) {
            *ports = std::mem::take(ports).into_iter().flat_map(port).collect();
        }
        if let Some(volumes) = service.get_mut("volumes").and_then(Value::as_array_mut) {
            volumes.iter_mut().for_each(|volume| self.volume(volume));
        }
        for key in ["secrets", "configs"] {
            grants(service, key, key == "secrets");
        }
        depends(service);
        if let Some(Value::Array(names)) = service.get("networks") {
            let names = names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), Value::Null)).collect();
            service.insert("networks".into(), Value::Object(names));
        }
        if !service.contains_key("network_mode") && !service.contains_key("provider") {
            let networks = service.entry("networks").or_insert_with(|| json!({}));
            if let Value::Object(networks) = networks
                && networks.is_empty()
            {
                networks.insert("default".into(), Value::Null);
            }
        }
        if let Some(Value::Object(build)) = service.get_mut("build") {
            self.build(build);
        }
    }

    fn build(&self, build: &mut Map<String, Value>) {
        build.retain(|_, value| !value.is_null() && *value != "");
        flags(build);
        build.entry("context").or_insert_with(|| self.directory.display().to_string().into());
        if !build.contains_key("dockerfile_inline") {
            build.entry("dockerfile").or_insert_with(|| "Dockerfile".into());
        }
        if let Some(Value::Object(args)) = build.get_mut("args") {
            for (name, value) in args.iter_mut() {
                match value {
                    Value::Null => {
                        self.variables.get(name).into_iter().for_each(|found| *value = found.clone().into());
                    }
                    value => *value = text(value).into(),
                }
            }
            args.retain(|_, value| !value.is_null());
        }
        texts(build, "labels", "");
        size(build, "shm_size");
        hosts(build);
        grants(build, "secrets", false);
        if let Some(Value::Object(agents)) = build.get("ssh") {
            let agent = |(id, path): (&String, &Value)| match path.as_str() {
                Some(path) if !path.is_empty() => format!("{id}={path}"),
                _ => id.clone(),
            };
            let agents: Vec<String> = agents.iter().map(agent).collect();
            build.insert("ssh".into(), agents.into());
        }
        list(build, "ssh");
    }

    fn volume(&self, volume: &mut Value) {
        match volume {
            Value::String(short) => {
                let parts: Vec<&str> = short.split(':').collect();
                let (source, target, modes) = match parts[..] {
                    [target] => (None, target, ""),
                    [source, target] => (Some(source), target, ""),
                    [source, target, modes] => (Some(source), target, modes),
                    _ => return,
                };
                let path = source.filter(|source| source.starts_with(['.', '/', '~']));
                let mut long = Map::new();
                long.insert("type".into(), if path.is_some() { "bind" } else { "volume" }.into());
                let source = path.map(|path| place(self.directory, self.variables, path)).or(source.map(str::to_owned));
                source.into_iter().for_each(|source| drop(long.insert("source".into(), source.into())));
                long.insert("target".into(), clean(target).into());
                let kind = if path.is_some() { "bind" } else { "volume" };
                let mut own = Map::new();
                for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
                    match mode {
                        "ro" => drop(long.insert("read_only".into(), true.into())),
                        "rw" => {}
                        "z" | "Z" => drop(own.insert("selinux".into(), mode.into())),
                        "nocopy" => drop(own.insert("nocopy".into(), true.into())),
                        "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                            own.insert("propagation".into(), mode.into());
                        }
                        // How fresh a copy is to be, which only other systems ever looked at.
                        _ => {}
                    }
                }
                long.insert(kind.into(), own.into());
                *volume = long.into();
            }
            Value::Object(long) => {
                let bind = long.get("type").and_then(Value::as_str) == Some("bind");
                if bind && let Some(Value::String(source)) = long.get_mut("source") {
                    *source = place(self.directory, self.variables, source);
                }
                if let Some(Value::String(target)) = long.get_mut("target") {
                    *target = clean(target);
                }
                if let Some(Value::Object(own)) = long.get_mut("tmpfs") {
                    size(own, "size");
                }
            }
            _ => {}
        }
    }
}

/// A place in a container without a slash at its end.
fn clean(target: &str) -> String {
    match target.trim_end_matches('/') {
        "" => target.to_owned(),
        clean => clean.to_owned(),
    }
}

fn flags(map: &mut Map<String, Value>) {
    for key in FLAGS {
        let flag = match map.get(key).and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
            Some("y" | "yes" | "on" | "true") => true,
            Some("n" | "no" | "off" | "false") => false,
            _ => continue,
        };
        map.insert(key.into(), flag.into());
    }
}

fn number(map: &mut Map<String, Value>, key: &str) {
    if let Some(number) = map.get(key).and_then(Value::as_str).and_then(|text| text.parse::<f64>().ok()) {
        map.insert(key.into(), number.into());
    }
}

fn deployed(deploy: &mut Map<String, Value>) {
    texts(deploy, "labels", "");
    for (part, keys) in [
        ("restart_policy", &["delay", "window"][..]),
        ("update_config", &["delay", "monitor"]),
        ("rollback_config", &["delay", "monitor"]),
    ] {
        if let Some(Value::Object(part)) = deploy.get_mut(part) {
            keys.iter().for_each(|key| duration(part, key));
        }
    }
    for kind in ["limits", "reservations"] {
        let limits = deploy.get_mut("resources").and_then(|resources| resources.get_mut(kind));
        if let Some(Value::Object(limits)) = limits {
            size(limits, "memory");
            number(limits, "cpus");
        }
    }
}

/// A number, truth value or text as text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn texts(map: &mut Map<String, Value>, key: &str, nothing: &str) {
    if let Some(Value::Object(all)) = map.get_mut(key) {
        for value in all.values_mut() {
            *value = if value.is_null() { nothing.into() } else { text(value).into() };
        }
    }
}

pub(super) fn list(map: &mut Map<String, Value>, key: &str) {
    match map.get_mut(key) {
        Some(value @ (Value::String(_) | Value::Number(_))) => *value = json!([text(value)]),
        Some(Value::Array(items)) => {
            items.iter_mut().filter(|item| item.is_number()).for_each(|item| *item = text(item).into());
        }
        _ => {}
    }
}

/// `512m`, `1.5gb` in bytes, as text.
pub(super) fn size(map: &mut Map<String, Value>, key: &str) {
    let Some(value) = map.get(key).map(text) else { return };
    let lower = value.trim().to_ascii_lowercase();
    if lower == "-1" {
        map.insert(key.into(), lower.into());
        return;
    }
    let at = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(at);
    let power = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return,
    };
    if let Ok(number) = number.parse::<f64>() {
        map.insert(key.into(), format!("{:.0}", (number * 1024_f64.powi(power)).floor()).into());
    }
}

/// `90s`, `1h5m` as Go prints it: `1m30s`, `1h5m0s`.
fn duration(map: &mut Map<String, Value>, key: &str) {
    let Some(Value::String(given)) = map.get(key) else { return };
    let (mut rest, mut total) = (given.as_str(), 0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
        let units = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let scale = match &rest[digits..units] {
            "d" => 86_400e3,
            "h" => 3_600e3,
            "m" => 60e3,
            "s" => 1e3,
            "ms" => 1.0,
            _ => return,
        };
        let Ok(number) = rest[..digits].parse::<f64>() else { return };
        total += number * scale;
        rest = &rest[units..];
    }
    let (milliseconds, seconds) = (total % 1e3, (total / 1e3).floor());
    let (hours, minutes, seconds) = ((seconds / 3600.0).floor(), (seconds / 60.0).floor() % 60.0, seconds % 60.0);
    let seconds = if milliseconds > 0.0 { format!("{}s", seconds + milliseconds / 1e3) } else { format!("{seconds}s") };
    let printed = match (hours > 0.0, minutes > 0.0) {
        (true, _) => format!("{hours}h{minutes}m{seconds}"),
        (false, true) => format!("{minutes}m{seconds}"),
        (false, false) if total > 0.0 && total < 1e3 => format!("{milliseconds}ms"),
        _ => seconds,
    };
    map.insert(key.into(), printed.into());
}

/// A name with each of its addresses, which may stand in brackets.
fn each(name: &str, addresses: &str) -> Vec<String> {
    addresses.split(',').map(|one| format!("{name}={}", one.trim_matches(['[', ']']))).collect()
}

/// `name:address` and `name=address`, by name.
fn hosts(map: &mut Map<String, Value>) {
    let mut pairs: Vec<String> = match map.get("extra_hosts") {
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                let item = text(item);
                let pair = item.split_once('=').or_else(|| item.split_once(':'));
                pair.map_or_else(|| vec![item.clone()], |(name, addresses)| each(name, addresses))
            })
            .collect::<Vec<_>>()
            .concat(),
        Some(Value::Object(all)) => all
            .iter()
            .flat_map(|(name, value)| match value {
                Value::Array(several) => several.iter().flat_map(|one| each(name, &text(one))).collect(),
                one => each(name, &text(one)),
            })
            .collect(),
        _ => return,
    };
    pairs.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
    map.insert("extra_hosts".into(), pairs.into());
}

/// What a service or build gets of secrets and configurations.
fn grants(map: &mut Map<String, Value>, key: &str, target: bool) {
    let Some(items) = map.get_mut(key).and_then(Value::as_array_mut) else { return };
    for item in items {
        match item {
            Value::String(name) if target => {
                *item = json!({ "source": name, "target": format!("/run/secrets/{name}") });
            }
            Value::String(name) => *item = json!({ "source": name }),
            Value::Object(long) => {
                let mode = long.get("mode").and_then(Value::as_u64);
                mode.into_iter().for_each(|mode| drop(long.insert("mode".into(), format!("{mode:04o}").into())));
            }
            _ => {}
        }
    }
}

fn depends(service: &mut Map<String, Value>) {
    let mut all = match service.remove("depends_on") {
        Some(Value::Array(names)) => {
            let started = || json!({ "condition": "service_started", "required": true });
            names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), started())).collect()
        }
        Some(Value::Object(mut all)) => {
            for one in all.values_mut().filter_map(Value::as_object_mut) {
                one.entry("condition").or_insert_with(|| "service_started".into());
                one.entry("required").or_insert(Value::Bool(true));
            }
            all
        }
        _ => Map::new(),
    };
    let mut also = |name: &str, restart: bool| {
        let mut one = json!({ "condition": "service_started", "required": true });
        if restart {
            one["restart"] = true.into();
        }
        all.entry(name).or_insert(one);
    };
    for link in service.get("links").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        also(link.split(':').next().unwrap_or(link), true);
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let shared = service.get(key).and_then(Value::as_str).and_then(|mode| mode.strip_prefix("service:"));
        shared.into_iter().for_each(|name| also(name, true));
    }
    let from = service.get("volumes_from").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in from.filter(|name| !name.starts_with("container:")) {
        also(name.split(':').next().unwrap_or(name), false);
    }
    if !all.is_empty() {
        service.insert("depends_on".into(), all.into());
    }
}

/// `[[address:]published:]target[/protocol]`, each of the two a number or a range.
fn port(port: Value) -> Vec<Value> {
    let short = match &port {
        Value::String(short) => short.clone(),
        Value::Number(number) => number.to_string(),
        Value::Object(long) => {
            let mut long = long.clone();
            long.entry("mode").or_insert_with(|| "ingress".into());
            long.entry("protocol").or_insert_with(|| "tcp".into());
            if let Some(published) = long.get("published").filter(|published| published.is_number()).map(text) {
                long.insert("published".into(), published.into());
            }
            return vec![long.into()];
        }
        _ => return vec![port],
    };
    let (rest, protocol) = short.split_once('/').unwrap_or((&short, "tcp"));
    let (front, target) = rest.rsplit_once(':').map_or((None, rest), |(front, target)| (Some(front), target));
    let (address, published) = match front {
        None => (None, None),
        Some(front) => match front.rsplit_once(':') {
            Some((address, published)) => (Some(address.trim_matches(['[', ']'])), Some(published)),
            None => (None, Some(front)),
        },
    };
    let range = |text: &str| -> Option<(u32, u32)> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Some((from.parse().ok()?, to.parse().ok()?)).filter(|(from, to)| from <= to && *to <= 65_535)
    };
    let published = published.filter(|published| !published.is_empty());
    let (Some(targets), outside) = (range(target), published.map(range)) else { return vec![port] };
    let count = targets.1 - targets.0;
    let one = |number: u32| {
        let mut long = Map::new();
        long.insert("mode".into(), "ingress".into());
        address.into_iter().for_each(|address| drop(long.insert("host_ip".into(), address.into())));
        long.insert("target".into(), (targets.0 + number).into());
        let at = match outside {
            Some(Some((from, to))) if to - from == count => Some((from + number).to_string()),
            _ => published.map(str::to_owned),
        };
        at.into_iter().for_each(|at| drop(long.insert("published".into(), at.into())));
        long.insert("protocol".into(), protocol.into());
        Value::Object(long)
    };
    (0..=count).map(one).collect()
}

/// A command line as a shell would cut it into words; `None` when a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                let next = chars.next()?;
                let kept = quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`' | '\n');
                let word = word.get_or_insert_default();
                if kept {
                    word.push('\\');
                }
                word.push(next);
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

impl Canonical<'_> {
    /// Whether what the services name is there.
    fn consistent(&self, root: &Map<String, Value>) -> Result<(), String> {
        let has = |kind: &str, name: &str| root.get(kind).is_some_and(|all| all.get(name).is_some());
        for (name, service) in root.get("services").and_then(Value::as_object).into_iter().flatten() {
            let given = |key: &str| service.get(key).is_some();
            if !given("image") && !given("build") && !given("provider") {
                return Err(format!("service `{name}` has neither `image` nor `build`"));
            }
            let keys = |key: &str| service.get(key).and_then(Value::as_object).into_iter().flatten();
            for (other, how) in keys("depends_on") {
                let required = how.get("required") != Some(&Value::Bool(false));
                if !has("services", other) && (required || !self.services.contains(other)) {
                    return Err(format!("service `{name}` depends on `{other}`, and there is no such service"));
                }
            }
            if let Some((network, _)) = keys("networks").find(|(network, _)| !has("networks", network)) {
                return Err(format!("service `{name}` uses the network `{network}`, which `networks` does not have"));
            }
            let several =
                service.get("networks").and_then(Value::as_object).is_some_and(|networks| !networks.is_empty());
            if given("network_mode") && several {
                return Err(format!("service `{name}` has both `network_mode` and `networks`: leave one of them out"));
            }
            if let Some((model, _)) = keys("models").find(|(model, _)| !has("models", model)) {
                return Err(format!("service `{name}` uses the model `{model}`, which `models` does not have"));
            }
            let built = service.get("build").and_then(|build| build.get("platforms")?.as_array());
            if let (Some(platform), Some(built)) = (service.get("platform"), built)
                && !built.is_empty()
                && !built.contains(platform)
            {
                return Err(format!("service `{name}` runs on {platform}, which its `build.platforms` does not have"));
            }
            if has("jobs", name) {
                return Err(format!("`{name}` is both a service and a job: give one of them another name"));
            }
            let entries = |key: &str| service.get(key).and_then(Value::as_array).into_iter().flatten();
            let named = entries("volumes").filter(|volume| volume["type"] == "volume");
            if let Some(volume) = named.filter_map(|v| v["source"].as_str()).find(|volume| !has("volumes", volume)) {
                return Err(format!("service `{name}` uses the volume `{volume}`, which `volumes` does not have"));
            }
            for kind in ["secrets", "configs"] {
                if let Some(one) = entries(kind).filter_map(|one| one["source"].as_str()).find(|one| !has(kind, one)) {
                    return Err(format!("service `{name}` uses `{one}`, which `{kind}` does not have"));
                }
            }
            let many = service.get("scale").or_else(|| service.get("deploy")?.get("replicas")).and_then(Value::as_u64);
            if given("container_name") && many.is_some_and(|many| many > 1) {
                return Err(format!("service `{name}` has a `container_name` and more than one container"));
            }
        }
        for (kind, ways) in
            [("secrets", &["file", "environment"][..]), ("configs", &["file", "environment", "content"])]
        {
            for (name, one) in root.get(kind).and_then(Value::as_object).into_iter().flatten() {
                let external = one.get("external") == Some(&Value::Bool(true)) || one.get("driver").is_some();
                if !external && !ways.iter().any(|way| one.get(*way).is_some()) {
                    return Err(format!("`{kind}.{name}` says none of {}, and is not `external`", ways.join(", ")));
                }
            }
        }
        let services = root.get("services").and_then(Value::as_object);
        if let Some(circle) = services.and_then(parts::circle) {
            return Err(format!("services wait for each other in a circle: {}", circle.join(" → ")));
        }
        Ok(())
    }
}
