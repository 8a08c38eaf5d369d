//! The parts of a pod that are no fields: its log, its eviction, its place.

use axum::body::Body;
use futures::StreamExt as _;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::request::{Query, Target};
use super::streams::LogOptions;
use super::write::Request;
use super::{Api, body, remove};
use crate::objects::{meta, resource};
use crate::{Error, Result};

/// The container that is meant: the one that is named, or the only one. Also looks at init containers.
pub fn container(pod: &Value, asked: Option<&str>) -> Result<String> {
    let names = |field: &str| -> Vec<String> {
        let list = pod["spec"][field].as_array().into_iter().flatten();
        list.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let name = meta::name(pod);
    match asked {
        Some(asked) if main.iter().chain(&init).any(|n| n == asked) => Ok(asked.to_owned()),
        Some(asked) => Err(Error::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None => match meta::annotation(pod, "kubectl.kubernetes.io/default-container") {
            Some(default) if main.iter().any(|n| n == default) => Ok(default.to_owned()),
            _ => match &main[..] {
                [only] => Ok(only.clone()),
                several => Err(Error::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    several.join(" ")
                ))),
            },
        },
    }
}

/// `GET` of a log.
pub async fn log(api: &Api, target: &Target, query: &Query) -> Result<Answer> {
    let name = target.name.as_deref().unwrap_or_default();
    let pod = api.objects.get(&resource::PODS, target.namespace(), name)?;
    let container = container(&pod, query.get("container"))?;
    let since_seconds = query.number::<i64>("sinceSeconds")?;
    let since = match query.get("sinceTime") {
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
            Error::bad_request(format!("sinceTime: Invalid value: {text:?}: must be a time as in RFC 3339"))
        })?),
        None => since_seconds.map(|seconds| api.objects.now() - SignedDuration::from_secs(seconds.clamp(0, 1 << 40))),
    };
    let options = LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines: query.number::<u64>("tailLines")?,
        since,
        timestamps: query.flag("timestamps"),
        limit_bytes: query.number::<u64>("limitBytes")?,
    };
    let stream = api.streams.logs(target.namespace(), name, &container, options).await?;
    let stop = api.stop.clone().cancelled_owned();
    Ok(answer::raw(StatusCode::OK, "text/plain", Body::from_stream(stream.take_until(stop))))
}

/// `POST` of an eviction: a deletion that a budget could forbid. There are no budgets here.
pub async fn evict(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let body = body::document(body::media(request.headers), &request.body)?.value;
    let mut options = remove::from_value(&body["deleteOptions"])?;
    options.dry_run |= request.query.dry_run()?;
    let name = request.target.name.as_deref().unwrap_or_default();
    api.objects.delete(&resource::PODS, request.target.namespace(), name, &options).await?;
    Ok(answer::json(StatusCode::CREATED, &success(), &[]))
}

/// `POST` of a binding: says on which node a pod is to run.
pub async fn bind(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let body = body::document(body::media(request.headers), &request.body)?.value;
    let name = request.target.name.as_deref().unwrap_or_default();
    let node = body["target"]["name"].as_str().filter(|node| !node.is_empty());
    let Some(node) = node else {
        let cause = crate::Cause::required("target.name", "");
        return Err(Error::invalid("", "Binding", name, &[cause]));
    };
    let pod = api.objects.get(&resource::PODS, request.target.namespace(), name)?;
    if let Some(there) = pod["spec"]["nodeName"].as_str().filter(|there| !there.is_empty()) {
        let why = format!("pod {name} is already assigned to node {there:?}");
        return Err(Error::conflict("", "pods/binding", name, &why));
    }
    if !request.query.dry_run()? {
        let now = meta::time(api.objects.now());
        let place = |pod: &mut Value| {
            pod["spec"]["nodeName"] = node.into();
            let scheduled =
                json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
            match pod["status"]["conditions"].as_array_mut() {
                Some(conditions) => {
                    conditions.retain(|c| c["type"] != "PodScheduled");
                    conditions.push(scheduled);
                }
                None => pod["status"]["conditions"] = json!([scheduled]),
            }
        };
        api.objects.modify(&resource::PODS, request.target.namespace(), name, place).await?;
    }
    Ok(answer::json(StatusCode::CREATED, &success(), &[]))
}

fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
