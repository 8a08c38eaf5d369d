//! From a request to its answer.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use super::answer::{self, Answer};
use super::request::{self, Form, Place, Query, Target};
use super::{Api, body, discovery, not_allowed, openapi, pod, read, remove, streams, write};
use crate::{Error, Result};

/// Answers a request. `certified` says that the connection showed a certificate of the node's authority.
pub async fn answer(api: Arc<Api>, request: Request<Incoming>, certified: bool) -> Answer {
    match routed(api, request.map(Body::new), certified).await {
        Ok(answer) => answer,
        Err(error) => answer::error(&error),
    }
}

async fn routed(api: Arc<Api>, request: Request<Body>, certified: bool) -> Result<Answer> {
    let place = request::place(request.uri().path());
    let open = matches!(place, Some(Place::Health | Place::Version));
    if !open && !certified && !has_token(&api, &request) {
        return Err(Error::refused(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"));
    }
    let place = place.ok_or_else(discovery::unknown_path)?;
    let method = request.method().clone();
    let reading = method == Method::GET || method == Method::HEAD;
    let form = request::form(request.headers());
    match place {
        Place::Objects(target) => objects(api, target, form, request).await,
        Place::Review { group, plural, namespace } => {
            if method != Method::POST {
                return Err(not_allowed());
            }
            let (parts, body) = request.into_parts();
            let bytes = body::read(body).await?;
            let document = body::document(body::media(&parts.headers), &bytes)?;
            discovery::review(&group, &plural, namespace.as_deref(), document.value)
        }
        _ if !reading => Err(not_allowed()),
        Place::Index => Ok(answer::ok(&discovery::index())),
        Place::Version => Ok(answer::ok(&discovery::version())),
        Place::Health => Ok(answer::raw(StatusCode::OK, "text/plain", "ok")),
        Place::CoreVersions => Ok(discovery::core_versions(form, &api.address)),
        Place::Groups => Ok(discovery::group_list(form)),
        Place::Group(group) => discovery::group(&group),
        Place::Resources { group, version } => discovery::resources(&group, &version),
        Place::OpenApiV2 => openapi::v2(request.headers()).await,
        Place::OpenApiV3(path) => openapi::v3(path.as_deref(), request.headers()).await,
    }
}

fn has_token(api: &Api, request: &Request<Body>) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = given.and_then(|text| text.strip_prefix("Bearer ")) else { return false };
    aws_lc_rs::constant_time::verify_slices_are_equal(token.trim().as_bytes(), api.token.as_bytes()).is_ok()
}

async fn objects(api: Arc<Api>, target: Target, form: Form, mut request: Request<Body>) -> Result<Answer> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let method = request.method().clone();
    if let Some(sub @ ("exec" | "attach" | "portforward")) = target.subresource.as_deref()
        && (method == Method::GET || method == Method::POST)
    {
        let sub = sub.to_owned();
        return streams::upgrade(api, &target, &sub, &query, &mut request).await;
    }
    if method == Method::GET || method == Method::HEAD {
        return match (target.name.as_deref(), target.subresource.as_deref()) {
            (None, _) if query.flag("watch") => read::watch(&api, &target, form, &query),
            (None, _) => read::list(&api, &target, form, &query),
            // An old way to watch one object.
            (Some(_), None) if query.flag("watch") => Err(not_allowed()),
            (Some(name), None | Some("status")) => read::get(&api, &target, name, form, &query),
            (Some(name), Some("scale")) => {
                Ok(answer::ok(&write::scale_of(&*api.objects.get(target.resource, target.namespace(), name)?)))
            }
            (Some(_), Some("log")) => pod::log(&api, &target, &query).await,
            _ => Err(not_allowed()),
        };
    }
    let (parts, body) = request.into_parts();
    let body: Bytes = body::read(body).await?;
    let request = write::Request { target: &target, query: &query, headers: &parts.headers, form, body };
    match (method, target.name.as_deref(), target.subresource.as_deref()) {
        (Method::POST, None, None) => write::create(&api, &request).await,
        (Method::POST, Some(_), Some("eviction")) => pod::evict(&api, &request).await,
        (Method::POST, Some(_), Some("binding")) => pod::bind(&api, &request).await,
        (Method::PUT, Some(_), None | Some("status" | "finalize")) => write::replace(&api, &request).await,
        (Method::PATCH, Some(_), None | Some("status")) => write::patch(&api, &request).await,
        (Method::PUT, Some(_), Some("scale")) => write::scale(&api, &request, false).await,
        (Method::PATCH, Some(_), Some("scale")) => write::scale(&api, &request, true).await,
        (Method::DELETE, Some(_), None) => remove::one(&api, &request).await,
        (Method::DELETE, None, None) => remove::many(&api, &request).await,
        _ => Err(not_allowed().with_details(json!({"kind": target.resource.plural}))),
    }
}
