//! The paths of the API with what can be done there, as far as clients look: which kind, which action, which parameters.

use serde_json::{Map, Value, json};

use crate::api::schema::definition_name;
use crate::objects::Resource;

/// The paths of a kind in the form of v3.
pub fn of(resource: &Resource) -> Map<String, Value> {
    let root = if resource.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let base = if resource.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{root}/{}", resource.plural)
    };
    let mut paths = Map::new();
    let path = |parameters: &[&str], operations: &[(&str, &str)], kind: &Value, schema: &str| {
        let mut item = Map::new();
        for (method, action) in operations {
            item.insert((*method).to_owned(), operation(resource, method, action, kind, schema));
        }
        let parameters: Vec<Value> = parameters.iter().map(|name| path_parameter(name)).collect();
        item.insert("parameters".into(), parameters.into());
        Value::Object(item)
    };
    let own = json!({"group": resource.group, "kind": resource.kind, "version": resource.version});
    let schema = definition_name(resource);
    let outer: &[&str] = if resource.namespaced { &["namespace"] } else { &[] };
    let inner: &[&str] = if resource.namespaced { &["name", "namespace"] } else { &["name"] };
    if resource.namespaced {
        paths.insert(format!("{root}/{}", resource.plural), path(&[], &[("get", "list")], &own, &schema));
    }
    let mut many = vec![("get", "list"), ("post", "post")];
    if resource.verbs.contains(&"deletecollection") {
        many.push(("delete", "deletecollection"));
    }
    paths.insert(base.clone(), path(outer, &many, &own, &schema));
    let one = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")];
    paths.insert(format!("{base}/{{name}}"), path(inner, &one, &own, &schema));
    for part in resource.subresources {
        let kind = json!({"group": part.group, "kind": part.kind, "version": part.version});
        let operations: Vec<(&str, &str)> = part
            .verbs
            .iter()
            .filter_map(|verb| match *verb {
                "get" => Some(("get", "get")),
                "update" => Some(("put", "put")),
                "patch" => Some(("patch", "patch")),
                "create" => Some(("post", "post")),
                _ => None,
            })
            .collect();
        paths.insert(format!("{base}/{{name}}/{}", part.name), path(inner, &operations, &kind, &schema));
    }
    paths
}

fn path_parameter(name: &str) -> Value {
    let description = match name {
        "name" => "name of the object",
        _ => "object name and auth scope, such as for teams and projects",
    };
    json!({"name": name, "in": "path", "description": description, "required": true,
        "schema": {"type": "string", "uniqueItems": true}})
}

fn query_parameter(name: &str) -> Value {
    let kind = match name {
        "force" | "watch" | "allowWatchBookmarks" => "boolean",
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        _ => "string",
    };
    let description = match name {
        "dryRun" => "When present, indicates that modifications should not be persisted. Valid values are: - All",
        "fieldManager" => "The name of the actor or entity that is making these changes.",
        "fieldValidation" => "What to do with unknown or duplicate fields: Ignore, Warn or Strict.",
        "force" => "Force is going to \"force\" Apply requests: conflicting fields owned by others are taken over.",
        "labelSelector" => "A selector to restrict the list of returned objects by their labels.",
        "fieldSelector" => "A selector to restrict the list of returned objects by their fields.",
        _ => "",
    };
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}

fn operation(resource: &Resource, method: &str, action: &str, kind: &Value, schema: &str) -> Value {
    let parameters: &[&str] = match action {
        "list" => &[
            "labelSelector",
            "fieldSelector",
            "limit",
            "continue",
            "resourceVersion",
            "watch",
            "allowWatchBookmarks",
            "timeoutSeconds",
        ],
        "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" | "deletecollection" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        _ => &[],
    };
    let parameters: Vec<Value> = parameters.iter().map(|name| query_parameter(name)).collect();
    let reference = json!({"application/json": {"schema": {"$ref": format!("#/definitions/{schema}")}}});
    let mut operation = json!({
        "description": format!("{action} {}", resource.kind),
        "operationId": format!("{action}{}{}", resource.kind, kind["kind"].as_str().unwrap_or_default()),
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    });
    if action != "list" && *kind == json!({"group": resource.group, "kind": resource.kind, "version": resource.version})
    {
        operation["responses"]["200"]["content"] = reference.clone();
    }
    if method == "patch" {
        let media = [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ];
        let content: Map<String, Value> =
            media.iter().map(|m| ((*m).to_owned(), json!({"schema": {"type": "object"}}))).collect();
        operation["requestBody"] = json!({"content": content, "required": true});
    } else if method == "put" || method == "post" {
        operation["requestBody"] = json!({"content": reference, "required": true});
    }
    operation
}

/// The paths in the form of v2: the type of a parameter stands in it, bodies are parameters.
pub fn v2(paths: &Map<String, Value>) -> Value {
    let mut all = Map::new();
    for (path, item) in paths {
        let mut item = item.clone();
        for (key, value) in item.as_object_mut().into_iter().flatten() {
            if key == "parameters" {
                value.as_array_mut().into_iter().flatten().for_each(flatten);
                continue;
            }
            value["parameters"].as_array_mut().into_iter().flatten().for_each(flatten);
            let Some(operation) = value.as_object_mut() else { continue };
            if let Some(body) = operation.shift_remove("requestBody") {
                let media: Vec<Value> =
                    body["content"].as_object().into_iter().flatten().map(|(media, _)| media.as_str().into()).collect();
                let schema = body["content"].as_object().and_then(|c| c.values().next()).map(|c| c["schema"].clone());
                let parameter = json!({"name": "body", "in": "body", "required": true, "schema": schema});
                if let Some(list) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
                    list.push(parameter);
                }
                operation.insert("consumes".into(), media.into());
            }
            if let Some(content) = operation
                .get_mut("responses")
                .and_then(|r| r.get_mut("200"))
                .and_then(Value::as_object_mut)
                .and_then(|r| r.shift_remove("content"))
            {
                operation["responses"]["200"]["schema"] = content["application/json"]["schema"].clone();
            }
        }
        all.insert(path.clone(), item);
    }
    Value::Object(all)
}

fn flatten(parameter: &mut Value) {
    let schema = parameter.as_object_mut().and_then(|map| map.shift_remove("schema"));
    if let (Some(schema), Some(map)) = (schema, parameter.as_object_mut()) {
        map.extend(schema.as_object().cloned().unwrap_or_default());
    }
}
