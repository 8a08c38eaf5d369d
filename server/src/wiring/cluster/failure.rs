//! Why pods are not ready: the ends of sentences that people read. Pure.

use k8s_openapi::{
    api::core::v1::{Container, ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
    jiff::Timestamp,
};
use rollout::{Failure, FailureKind};

/// Characters of what a program, a runtime or a controller said.
const SAID: usize = 200;

pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// The best explanation that the pods which are not ready give: the gravest, and of those the newest pod's.
pub(super) fn of_pods(pods: &[&Pod], events: &[Event]) -> Option<Failure> {
    let unready = pods.iter().filter(|pod| !is_ready(pod) && !succeeded(pod));
    let failures = unready.filter_map(|pod| {
        let failure = of_pod(pod, events)?;
        let gravity = match failure.kind {
            FailureKind::Refused => u64::MAX,
            FailureKind::Crashing { restarts } => 2 + u64::from(restarts),
            FailureKind::Image => 1,
            FailureKind::NotReady => 0,
        };
        Some((gravity, pod.metadata.creation_timestamp.as_ref().map(|at| at.0), failure))
    });
    failures.max_by_key(|(gravity, created, _)| (*gravity, *created)).map(|(_, _, failure)| failure)
}

fn succeeded(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Succeeded"))
}

fn of_pod(pod: &Pod, events: &[Event]) -> Option<Failure> {
    let status = pod.status.as_ref();
    let of = |list: fn(&k8s_openapi::api::core::v1::PodStatus) -> &Option<Vec<ContainerStatus>>| {
        status.and_then(|status| list(status).as_ref()).into_iter().flatten()
    };
    let init = of(|status| &status.init_container_statuses).map(|found| (found, "init container"));
    let main = of(|status| &status.container_statuses).map(|found| (found, "container"));
    let told = Told { pod, events };
    let of_containers = init
        .chain(main)
        .filter(|(found, _)| !found.ready)
        .find_map(|(found, role)| of_container(found, &format!("{role} {}", found.name), &told));
    if of_containers.is_some() {
        return of_containers;
    }
    if let Some(("False", Some(why))) = condition(pod, "PodScheduled") {
        return Some(not_ready(format!("no node can take its pod: {}", tidy(why, SAID))));
    }
    if let Some(message) = told.last(&["FailedCreatePodSandBox", "FailedMount", "FailedAttachVolume"], None) {
        return Some(not_ready(format!("its pod cannot be set up: {}", tidy(message, SAID))));
    }
    let said = status.and_then(|status| status.message.as_deref().or(status.reason.as_deref()));
    if let Some(said) = said.filter(|said| !said.is_empty()) {
        return Some(not_ready(format!("its pod says: {}", tidy(said, SAID))));
    }
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref()).into_iter().flatten();
    let mut open = gates.filter(|gate| condition(pod, &gate.condition_type).is_none_or(|(status, _)| status != "True"));
    open.next().map(|gate| not_ready(format!("its readiness gate {} does not hold", gate.condition_type)))
}

fn of_container(found: &ContainerStatus, name: &str, told: &Told<'_>) -> Option<Failure> {
    let restarts = u32::try_from(found.restart_count).unwrap_or(0);
    let state = found.state.clone().unwrap_or_default();
    let last = found.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let crashing = |ended: &ContainerStateTerminated| {
        (ended.exit_code != 0 || restarts > 0).then(|| {
            let message = match told.killed_by_probe(found, ended) {
                Some(probe) => format!("{name} is restarted again and again, since its {probe}"),
                None => ends(name, ended),
            };
            Failure { kind: FailureKind::Crashing { restarts }, message }
        })
    };
    match state {
        ContainerState { waiting: Some(waiting), .. } => {
            let said = tidy(waiting.message.as_deref().unwrap_or_default(), SAID * 2);
            match waiting.reason.as_deref().unwrap_or_default() {
                "EvidenceMissing" => {
                    let message =
                        if said.is_empty() { format!("evidence for the image of {name} is missing") } else { said };
                    Some(Failure { kind: FailureKind::Refused, message })
                }
                "ErrImagePull"
                | "ImagePullBackOff"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "ImageInspectError"
                | "RegistryUnavailable"
                | "SignatureValidationFailed" => {
                    let image = tidy(&found.image, SAID);
                    let why = pull_error(&said);
                    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                    Some(Failure {
                        kind: FailureKind::Image,
                        message: format!("the image {image} of {name} cannot be had{why}"),
                    })
                }
                "CrashLoopBackOff" => Some(last.and_then(crashing).unwrap_or(Failure {
                    kind: FailureKind::Crashing { restarts },
                    message: format!("{name} keeps ending"),
                })),
                "ContainerCreating" | "PodInitializing" | "" => last.and_then(crashing),
                // It cannot be made from what it asks for, such as a ConfigMap that is not there (yet).
                reason => {
                    let why = if said.is_empty() { reason.to_owned() } else { said };
                    Some(not_ready(format!("{name} cannot be started: {why}")))
                }
            }
        }
        ContainerState { terminated: Some(ended), .. } => crashing(&ended),
        _ => {
            if let Some(probe) = told.probe(found) {
                return Some(not_ready(probe));
            }
            // It may do better this time.
            let ended = last.filter(|_| restarts > 0)?;
            Some(not_ready(format!("{name} runs again after {} restarts, since it {}", restarts, ended_how(ended))))
        }
    }
}

fn not_ready(message: String) -> Failure {
    Failure { kind: FailureKind::NotReady, message }
}

/// Container runtimes say the same several times over.
fn pull_error(said: &str) -> &str {
    let said = said.strip_prefix("Back-off: ").unwrap_or(said);
    match said.strip_prefix("Failed to pull image ").or(said.strip_prefix("Back-off pulling image ")) {
        // The image in quotes, then why.
        Some(rest) => rest.split_once("\": ").map_or("", |(_, why)| why),
        None => said,
    }
}

/// How a container keeps ending.
fn ends(name: &str, ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.exit_code) {
        (Some("OOMKilled"), _) => format!("{name} keeps running out of memory"),
        (Some("StartError" | "ContainerCannotRun"), _) => format!("{name} cannot be started{}", last_words(ended)),
        (_, code) => format!("{name} keeps ending with status {code}{}{}", signal(code), last_words(ended)),
    }
}

fn ended_how(ended: &ContainerStateTerminated) -> String {
    match ended.reason.as_deref() {
        Some("OOMKilled") => "ran out of memory".to_owned(),
        _ => format!("ended with status {}{}{}", ended.exit_code, signal(ended.exit_code), last_words(ended)),
    }
}

/// The signal that a status above 128 stands for.
fn signal(code: i32) -> String {
    match nix::sys::signal::Signal::try_from(code - 128) {
        Ok(signal) => format!(" ({signal})"),
        Err(_) => String::new(),
    }
}

/// The line of what a program said last that is most likely to say why.
fn last_words(ended: &ContainerStateTerminated) -> String {
    let text = ended.message.as_deref().unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["error", "panic", "fatal", "exception", "cannot", "not found", "denied"].iter().any(|word| line.contains(word))
    };
    let at = lines.iter().position(telling);
    let line = at.map(|at| lines.swap_remove(at)).or(lines.pop());
    line.map_or(String::new(), |line| format!(": {}", tidy(line, SAID)))
}

/// What events say of a pod.
struct Told<'a> {
    pod: &'a Pod,
    events: &'a [Event],
}

impl<'a> Told<'a> {
    /// The message of the last event with one of these reasons, of a container or of the whole pod.
    fn last(&self, reasons: &[&str], container: Option<&str>) -> Option<&'a str> {
        self.of_container(container)
            .filter(|event| reasons.contains(&event.reason.as_deref().unwrap_or_default()))
            .max_by_key(|event| at(event))?
            .message
            .as_deref()
    }

    fn of_container(&self, container: Option<&str>) -> impl Iterator<Item = &'a Event> {
        let field = container.map(|name| format!("{{{name}}}"));
        let uid = self.pod.metadata.uid.clone();
        self.events.iter().filter(move |event| {
            let path = event.involved_object.field_path.as_deref().unwrap_or_default();
            event.involved_object.uid == uid && field.as_deref().is_none_or(|field| path.ends_with(field))
        })
    }

    /// What a probe of a container got last: `readiness probe GET /ready on port 8080 answered 503`.
    fn probe(&self, container: &ContainerStatus) -> Option<String> {
        let message = self.last(&["Unhealthy"], Some(&container.name))?;
        Some(probe_sentence(message, self.spec(&container.name)))
    }

    /// The probe for whose sake a container was ended, when that is why it ended.
    fn killed_by_probe(&self, container: &ContainerStatus, ended: &ContainerStateTerminated) -> Option<String> {
        if !matches!(ended.exit_code, 0 | 137 | 143) || ended.reason.as_deref() == Some("OOMKilled") {
            return None;
        }
        let fatal = |event: &&Event| {
            let message = event.message.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("Unhealthy")
                && ["Liveness", "Startup"].iter().any(|kind| message.starts_with(kind))
        };
        let last = self.of_container(Some(&container.name)).filter(fatal).max_by_key(|event| at(event))?;
        Some(probe_sentence(last.message.as_deref()?, self.spec(&container.name)))
    }

    fn spec(&self, container: &str) -> Option<&'a Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|found| found.name == container)
    }
}

fn at(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|at| at.0);
    let last = event.last_timestamp.as_ref().map(|at| at.0);
    let first = event.event_time.as_ref().map(|at| at.0);
    series.max(last).max(first).or(event.metadata.creation_timestamp.as_ref().map(|at| at.0))
}

/// From the kubelet's words (`Readiness probe failed: HTTP probe failed with statuscode: 503`) and the probe itself.
fn probe_sentence(message: &str, container: Option<&Container>) -> String {
    let Some((kind, said)) = message.split_once(" probe ") else { return tidy(message, SAID) };
    let said = said.trim_start_matches("failed:").trim_start_matches("errored and resulted in unknown state:");
    let said = said.trim_start_matches("errored:").trim();
    let probe = container.and_then(|container| match kind {
        "Readiness" => container.readiness_probe.as_ref(),
        "Liveness" => container.liveness_probe.as_ref(),
        "Startup" => container.startup_probe.as_ref(),
        _ => None,
    });
    let asked = probe.and_then(asked).map_or(String::new(), |asked| format!(" {asked}"));
    let answer = match said.strip_prefix("HTTP probe failed with statuscode: ") {
        Some(status) => format!("answered {}", tidy(status, SAID)),
        None if said.contains("connection refused") => "found nobody listening".to_owned(),
        None if ["deadline exceeded", "Client.Timeout", "i/o timeout", "no answer within"]
            .iter()
            .any(|t| said.contains(t)) =>
        {
            "got no answer in time".to_owned()
        }
        None if said.is_empty() => "failed".to_owned(),
        None => format!("failed: {}", tidy(said, SAID)),
    };
    format!("{} probe{asked} {answer}", kind.to_lowercase())
}

/// What a probe asks, in few words.
fn asked(probe: &Probe) -> Option<String> {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => format!("port {number}"),
        IntOrString::String(name) => format!("port `{}`", tidy(name, SAID)),
    };
    if let Some(get) = &probe.http_get {
        return Some(format!("GET {} on {}", tidy(get.path.as_deref().unwrap_or("/"), SAID), port(&get.port)));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some(format!("by TCP on {}", port(&tcp.port)));
    }
    if let Some(grpc) = &probe.grpc {
        return Some(format!("by gRPC on port {}", grpc.port));
    }
    let command = probe.exec.as_ref()?.command.as_ref()?.join(" ");
    Some(format!("`{}`", tidy(&command, 80)))
}

/// Status and message of a pod's condition.
fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, Option<&'a str>)> {
    let found = pod.status.as_ref()?.conditions.iter().flatten().find(|found| found.type_ == kind)?;
    Some((found.status.as_str(), found.message.as_deref()))
}

/// Text from outside as a part of a sentence: one line, without its full stop, digests short, at most so many characters.
pub(super) fn tidy(text: &str, limit: usize) -> String {
    // What is far too long is not even looked at.
    let text: String = text.chars().take(limit * 8).filter(|c| !c.is_control() || c.is_whitespace()).collect();
    let words: Vec<String> = text.split_whitespace().map(short_digest).collect();
    let text = words.join(" ");
    let text = text.trim_end_matches('.');
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// The first twelve digits of a digest tell it well enough.
fn short_digest(word: &str) -> String {
    let Some(at) = word.find("sha256:") else { return word.to_owned() };
    let digits = at + "sha256:".len();
    let hex = word[digits..].bytes().take_while(u8::is_ascii_hexdigit).count();
    if hex == 64 { format!("{}{}", &word[..digits + 12], &word[digits + 64..]) } else { word.to_owned() }
}
