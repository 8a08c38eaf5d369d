//! Deleting objects, one or many.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::write::Request;
use super::{Api, body, read};
use crate::objects::{DeleteOptions, Deleted, Propagation, meta, resource};
use crate::{Error, Result};

/// What a request says about how to delete: in its body, else in its query.
fn options(request: &Request<'_>) -> Result<DeleteOptions> {
    let given = match request.body.iter().all(u8::is_ascii_whitespace) {
        true => json!({}),
        false => body::document(body::media(request.headers), &request.body)?.value,
    };
    let mut options = from_value(&given)?;
    options.dry_run |= request.query.dry_run()?;
    if options.grace.is_none() {
        options.grace = request.query.number("gracePeriodSeconds")?;
    }
    if options.propagation.is_none() {
        options.propagation = request.query.get("propagationPolicy").map(propagation).transpose()?;
    }
    if options.propagation.is_none() && request.query.has("orphanDependents") {
        let orphan = request.query.flag("orphanDependents");
        options.propagation = Some(if orphan { Propagation::Orphan } else { Propagation::Background });
    }
    Ok(options)
}

/// Reads a `DeleteOptions` object.
pub fn from_value(given: &Value) -> Result<DeleteOptions> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut dry_run = false;
    for kind in given["dryRun"].as_array().into_iter().flatten() {
        if kind != "All" {
            return Err(Error::bad_request(format!("dryRun: Unsupported value: {kind}: supported values: \"All\"")));
        }
        dry_run = true;
    }
    let orphan = given["orphanDependents"].as_bool().map(|orphan| match orphan {
        true => Propagation::Orphan,
        false => Propagation::Background,
    });
    Ok(DeleteOptions {
        uid: text(&given["preconditions"]["uid"]),
        resource_version: text(&given["preconditions"]["resourceVersion"]),
        propagation: given["propagationPolicy"].as_str().map(propagation).transpose()?.or(orphan),
        grace: given["gracePeriodSeconds"].as_i64(),
        dry_run,
    })
}

fn propagation(text: &str) -> Result<Propagation> {
    match text {
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => Err(Error::bad_request(format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
        ))),
    }
}

/// `DELETE` of one object.
pub async fn one(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let resource = request.target.resource;
    let name = request.target.name.as_deref().unwrap_or_default();
    if resource == &resource::NAMESPACES && super::namespaces::BUILT_IN.contains(&name) {
        return Err(Error::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    let options = options(request)?;
    let done = api.objects.delete(resource, request.target.namespace(), name, &options).await?;
    let object = match &done {
        // As the real API does: what ends by itself is shown, what is gone is confirmed.
        Deleted::Gone(object) if resource != &resource::PODS => {
            let mut details = json!({"name": name, "kind": resource.plural, "uid": meta::uid(object)});
            if !resource.group.is_empty() {
                details["group"] = resource.group.into();
            }
            return Ok(answer::ok(&json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            })));
        }
        Deleted::Gone(object) | Deleted::Marked(object) => object,
    };
    Ok(answer::ok(&read::one(api, resource, object, request.form, request.query)))
}

/// `DELETE` of all objects that the query selects.
pub async fn many(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let resource = request.target.resource;
    if !resource.verbs.contains(&"deletecollection") {
        return Err(super::not_allowed());
    }
    let options = options(request)?;
    let (objects, version) = api.objects.list(resource, &read::scope(request.target, request.query)?);
    let deletions = objects
        .iter()
        .map(|object| api.objects.delete(resource, meta::namespace(object), meta::name(object), &options));
    let mut gone: Vec<Arc<Value>> = Vec::new();
    for done in futures::future::join_all(deletions).await {
        match done {
            Ok(done) => gone.push(done.object().clone()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let items: Vec<&Value> = gone.iter().map(|object| &**object).collect();
    Ok(answer::json(
        StatusCode::OK,
        &json!({"kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": version.to_string()}, "items": items}),
        &[],
    ))
}
