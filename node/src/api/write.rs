//! Changing objects: `POST`, `PUT`, `PATCH`, and the scale of what has one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::body::{self, Document, FieldValidation};
use super::request::{Form, Query, Target, manager};
use super::schema::{Shape, schema};
use super::{Api, apply, defaults, events, patch, read, validate};
use crate::objects::{Part, Resource, meta, resource, update};
use crate::{Error, Result};

/// How often a patch is tried again when another writer comes between.
const TRIES: u32 = 16;

/// A write on its way.
pub struct Request<'a> {
    pub target: &'a Target,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    pub form: Form,
    pub body: Bytes,
}

impl Request<'_> {
    fn resource(&self) -> &'static Resource {
        self.target.resource
    }

    fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    fn subresource(&self) -> &str {
        self.target.subresource.as_deref().unwrap_or_default()
    }

    fn part(&self) -> Part {
        match self.subresource() {
            "status" => Part::Status,
            "finalize" => Part::All,
            _ => Part::Main,
        }
    }

    fn writer(&self, api: &Api) -> Result<apply::Writer> {
        Ok(apply::Writer {
            manager: manager(self.query, self.headers)?,
            subresource: self.subresource().to_owned(),
            api_version: self.resource().api_version(),
            now: meta::time(api.objects.now()),
        })
    }

    fn document(&self) -> Result<Document> {
        body::document(body::media(self.headers), &self.body)
    }

    fn answer(&self, api: &Api, code: StatusCode, object: &Value, warnings: &[String]) -> Answer {
        let shown = read::one(api, self.resource(), object, self.form, self.query);
        answer::json(code, &shown, warnings)
    }
}

/// Refuses a body that is of another kind than the path.
fn expect_kind(api_version: &str, kind: &str, object: &Value) -> Result<()> {
    if !object.is_object() {
        return Err(Error::bad_request("the object provided is unrecognized: it is no JSON object"));
    }
    let found = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (found_version, found_kind) = (found("apiVersion"), found("kind"));
    // Clients of one kind leave them out of bodies now and then, and the real API fills them in.
    if !found_version.is_empty() && found_version != api_version {
        return Err(Error::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !found_kind.is_empty() && found_kind != kind {
        return Err(Error::bad_request(format!(
            "{found_kind} in version {api_version:?} cannot be handled as a {kind}: the path is one of a {kind}"
        )));
    }
    Ok(())
}

/// Gives an object the namespace and name of the path, or refuses those that differ.
fn settle(target: &Target, object: &mut Value) -> Result<()> {
    let (name, namespace) = (meta::name(object).to_owned(), meta::namespace(object).to_owned());
    let metadata = meta::map_mut(object, "metadata");
    if target.resource.namespaced {
        if !namespace.is_empty() && namespace != target.namespace() {
            return Err(Error::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        metadata.insert("namespace".into(), target.namespace().into());
    }
    if let Some(wanted) = &target.name {
        if !name.is_empty() && name != *wanted {
            return Err(Error::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({wanted})"
            )));
        }
        metadata.insert("name".into(), wanted.as_str().into());
    }
    Ok(())
}

/// Takes `managedFields` out of an object.
fn take_managers(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.shift_remove("managedFields")
}

fn put_managers(object: &mut Value, managers: &[apply::Manager]) {
    match apply::encode(managers) {
        Value::Null => drop(take_managers(object)),
        list => drop(meta::map_mut(object, "metadata").insert("managedFields".into(), list)),
    }
}

/// `POST` of an object.
pub async fn create(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let resource = request.resource();
    let Document { value: mut object, duplicates } = request.document()?;
    expect_kind(&resource.api_version(), resource.kind, &object)?;
    let validation = FieldValidation::of(request.query)?;
    let warnings = body::check(resource, schema().of(resource), &mut object, &duplicates, validation)?;
    settle(request.target, &mut object)?;
    let object = create_checked(api, request, object).await?;
    Ok(request.answer(api, StatusCode::CREATED, &object, &warnings))
}

async fn create_checked(api: &Api, request: &Request<'_>, object: Value) -> Result<Arc<Value>> {
    let resource = request.resource();
    let mut object = events::stored(resource, object);
    if !meta::resource_version_text(&object).is_empty() {
        return Err(Error::bad_request("resourceVersion should not be set on objects to be created"));
    }
    take_managers(&mut object);
    if resource.has_status() && resource != &resource::NODES {
        object.as_object_mut().map(|map| map.shift_remove("status"));
    }
    let stored = resource.stored_as.unwrap_or(resource);
    let bare = object.clone();
    defaults::apply(stored, &mut object);
    validate::validate(stored, &object, None)?;
    let managers = apply::update(schema().of(stored), None, &bare, Vec::new(), &request.writer(api)?);
    put_managers(&mut object, &managers);
    api.objects.create_or_rehearse(stored, object, request.query.dry_run()?).await
}

/// `PUT` of an object or its status.
pub async fn replace(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let resource = request.resource();
    let Document { value: mut object, duplicates } = request.document()?;
    expect_kind(&resource.api_version(), resource.kind, &object)?;
    let validation = FieldValidation::of(request.query)?;
    let warnings = body::check(resource, schema().of(resource), &mut object, &duplicates, validation)?;
    settle(request.target, &mut object)?;
    let object = events::stored(resource, object);
    let wanted = meta::resource_version_text(&object).to_owned();
    for _ in 0..TRIES {
        let old = api.objects.get(resource, request.target.namespace(), request.name())?;
        expect_version(resource, &old, &wanted)?;
        match commit(api, request, &old, object.clone()).await {
            Err(error) if error.is_conflict() && wanted.is_empty() => continue,
            done => return Ok(request.answer(api, StatusCode::OK, &*done?, &warnings)),
        }
    }
    Err(busy(resource, request.name()))
}

fn busy(resource: &Resource, name: &str) -> Error {
    Error::conflict(resource.group, resource.plural, name, "other writers came between every time; try again")
}

fn expect_version(resource: &Resource, old: &Value, wanted: &str) -> Result<()> {
    if wanted.is_empty() || old["metadata"]["resourceVersion"] == wanted {
        return Ok(());
    }
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Err(Error::conflict(resource.group, resource.plural, meta::name(old), why))
}

/// Writes `new` over `old` as the request's writer: what it may not change stays, rules are checked, ownership is recorded.
async fn commit(api: &Api, request: &Request<'_>, old: &Arc<Value>, new: Value) -> Result<Arc<Value>> {
    let stored = request.resource().stored_as.unwrap_or(request.resource());
    let mut new = settled(request, stored, old, new)?;
    let mut live = Value::clone(old);
    let before = take_managers(&mut live).unwrap_or_default();
    // A client may edit the list itself, to hand fields over; an empty one resets it.
    let asked = take_managers(&mut new);
    let managers = match asked {
        Some(list) if list != before => apply::decode(&list).unwrap_or_default(),
        _ => apply::decode(&before)?,
    };
    let managers = apply::update(schema().of(stored), Some(&live), &new, managers, &request.writer(api)?);
    put_managers(&mut new, &managers);
    write(api, request, old, new).await
}

/// The object as it will be stored but for its managers.
fn settled(request: &Request<'_>, stored: &Resource, old: &Value, new: Value) -> Result<Value> {
    let asked = new["metadata"].get("managedFields").cloned();
    let mut new = update::merged(stored, old, new, request.part());
    if stored == &resource::NAMESPACES && request.part() == Part::Main {
        new["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    }
    if meta::is_deleting(old)
        && let Some(added) = meta::finalizers(&new).find(|f| !meta::finalizers(old).any(|had| had == *f))
    {
        let cause = crate::Cause::forbidden(
            "metadata.finalizers",
            &format!("no new finalizers can be added if the object is being deleted, found new finalizers [{added:?}]"),
        );
        return Err(Error::invalid(stored.group, stored.kind, meta::name(old), &[cause]));
    }
    defaults::apply(stored, &mut new);
    if stored == &resource::SERVICES {
        defaults::keep_addresses(old, &mut new)?;
    }
    if request.part() == Part::Main {
        validate::validate(stored, &new, Some(old))?;
    }
    if let Some(asked) = asked {
        meta::map_mut(&mut new, "metadata").insert("managedFields".into(), asked);
    }
    Ok(new)
}

async fn write(api: &Api, request: &Request<'_>, old: &Value, mut new: Value) -> Result<Arc<Value>> {
    let stored = request.resource().stored_as.unwrap_or(request.resource());
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    api.objects.replace(stored, new, request.part(), request.query.dry_run()?).await
}

/// `PATCH` of an object or its status.
pub async fn patch(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let resource = request.resource();
    let media = body::media(request.headers);
    if media == "application/apply-patch+yaml" {
        return server_side_apply(api, request).await;
    }
    let document: Value = serde_json::from_slice(&request.body)
        .map_err(|e| Error::bad_request(format!("error decoding patch: it is no JSON: {e}")))?;
    let validation = FieldValidation::of(request.query)?;
    for _ in 0..TRIES {
        let old = api.objects.get(resource, request.target.namespace(), request.name())?;
        let mut new = events::shown(resource, Value::clone(&old));
        patched(media, schema().of(resource), &mut new, &document)?;
        let version = meta::resource_version_text(&new).to_owned();
        expect_version(resource, &old, &version)?;
        // A version in the patch itself is a condition; the one that came with the object is not.
        let conditional = document["metadata"].get("resourceVersion").is_some();
        if meta::name(&new) != meta::name(&old) || meta::namespace(&new) != meta::namespace(&old) {
            let cause = crate::Cause::invalid("metadata.name", &new["metadata"]["name"], "field is immutable");
            return Err(Error::invalid(resource.group, resource.kind, meta::name(&old), &[cause]));
        }
        let warnings = body::check(resource, schema().of(resource), &mut new, &[], validation)?;
        match commit(api, request, &old, events::stored(resource, new)).await {
            Err(error) if error.is_conflict() && !conditional => continue,
            done => return Ok(request.answer(api, StatusCode::OK, &*done?, &warnings)),
        }
    }
    Err(busy(resource, request.name()))
}

/// Applies a patch of the given media type.
fn patched(media: &str, shape: &Shape, object: &mut Value, document: &Value) -> Result<()> {
    match media {
        "application/json-patch+json" => patch::json(object, document.clone()),
        "application/merge-patch+json" => {
            patch::merge(object, document);
            Ok(())
        }
        "application/strategic-merge-patch+json" => patch::strategic(shape, object, document.clone()),
        other => {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml (it was {other:?})"
            );
            Err(Error::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
        }
    }
}

async fn server_side_apply(api: &Api, request: &Request<'_>) -> Result<Answer> {
    let resource = request.resource();
    if request.query.get("fieldManager").is_none() {
        return Err(Error::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    let Document { value: mut config, duplicates } = request.document()?;
    if config["apiVersion"].as_str().is_none() || config["kind"].as_str().is_none() {
        return Err(Error::bad_request("Object 'Kind' or 'apiVersion' is missing in the applied configuration"));
    }
    expect_kind(&resource.api_version(), resource.kind, &config)?;
    if config["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Error::bad_request("metadata.managedFields must be nil"));
    }
    let validation = FieldValidation::of(request.query)?;
    let shape = schema().of(resource);
    let warnings = body::check(resource, shape, &mut config, &duplicates, validation)?;
    settle(request.target, &mut config)?;
    let mut config = events::stored(resource, config);
    let stored = resource.stored_as.unwrap_or(resource);
    let shape = schema().of(stored);
    let wanted = meta::resource_version_text(&config).to_owned();
    meta::map_mut(&mut config, "metadata").shift_remove("resourceVersion");
    if let Some(map) = config.as_object_mut() {
        match request.part() {
            Part::Status => map.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status")),
            _ if stored.has_status() => drop(map.shift_remove("status")),
            _ => {}
        }
    }
    let (force, writer) = (request.query.flag("force"), request.writer(api)?);
    for _ in 0..TRIES {
        let Some(old) = api.objects.find(stored, request.target.namespace(), request.name()) else {
            if !wanted.is_empty() || request.part() != Part::Main {
                return Err(Error::not_found(resource.group, resource.plural, request.name()));
            }
            match create_applied(api, request, &config, &writer).await {
                Err(error) if error.is_already_exists() => continue,
                done => return Ok(request.answer(api, StatusCode::CREATED, &*done?, &warnings)),
            }
        };
        expect_version(resource, &old, &wanted)?;
        let mut live = Value::clone(&old);
        let managers = apply::decode(&take_managers(&mut live).unwrap_or_default())?;
        let applied = apply::apply(shape, Some(&live), &config, managers, &writer, force)?;
        let mut new = settled(request, stored, &old, applied.object)?;
        put_managers(&mut new, &applied.managers);
        match write(api, request, &old, new).await {
            Err(error) if error.is_conflict() && wanted.is_empty() => continue,
            done => return Ok(request.answer(api, StatusCode::OK, &*done?, &warnings)),
        }
    }
    Err(busy(resource, request.name()))
}

async fn create_applied(
    api: &Api,
    request: &Request<'_>,
    config: &Value,
    writer: &apply::Writer,
) -> Result<Arc<Value>> {
    let stored = request.resource().stored_as.unwrap_or(request.resource());
    let applied = apply::apply(schema().of(stored), None, config, Vec::new(), writer, false)?;
    let mut object = applied.object;
    defaults::apply(stored, &mut object);
    validate::validate(stored, &object, None)?;
    put_managers(&mut object, &applied.managers);
    api.objects.create_or_rehearse(stored, object, request.query.dry_run()?).await
}

/// The `Scale` of an object.
pub fn scale_of(object: &Value) -> Value {
    let selector = crate::objects::LabelSelector::from_object(&object["spec"]["selector"]);
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata[field] = object["metadata"][field].clone();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.map(|s| s.to_string()).unwrap_or_default(),
        },
    })
}

/// `PUT` or `PATCH` of a scale.
pub async fn scale(api: &Api, request: &Request<'_>, is_patch: bool) -> Result<Answer> {
    let resource = request.resource();
    let media = body::media(request.headers);
    for _ in 0..TRIES {
        let old = api.objects.get(resource, request.target.namespace(), request.name())?;
        let mut scale = scale_of(&old);
        if is_patch {
            let patch = match media {
                "application/apply-patch+yaml" => request.document()?.value,
                _ => serde_json::from_slice(&request.body)
                    .map_err(|e| Error::bad_request(format!("error decoding patch: it is no JSON: {e}")))?,
            };
            let media = if media == "application/apply-patch+yaml" { "application/merge-patch+json" } else { media };
            patched(media, schema().scale(), &mut scale, &patch)?;
        } else {
            scale = request.document()?.value;
            expect_kind("autoscaling/v1", "Scale", &scale)?;
        }
        let findings = super::schema::check(schema().scale(), &mut scale);
        if let Some(wrong) = findings.wrong.first() {
            let message = format!("Scale in version \"autoscaling/v1\" cannot be handled as a Scale: {wrong}");
            return Err(Error::bad_request(message));
        }
        let version = meta::resource_version_text(&scale).to_owned();
        expect_version(resource, &old, &version)?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let cause = crate::Cause::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
            return Err(Error::invalid("autoscaling", "Scale", request.name(), &[cause]));
        }
        let mut new = Value::clone(&old);
        new["spec"]["replicas"] = replicas.into();
        match commit(api, request, &old, new).await {
            Err(error) if error.is_conflict() && is_patch => continue,
            done => return Ok(answer::ok(&scale_of(&*done?))),
        }
    }
    Err(busy(resource, request.name()))
}
