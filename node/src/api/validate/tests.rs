use serde_json::json;

use super::*;
use crate::api::defaults;
use crate::objects::resource;

fn refused(resource: &Resource, mut object: Value) -> String {
    defaults::apply(resource, &mut object);
    validate(resource, &object, None).err().map(|error| error.to_string()).unwrap_or_default()
}

fn deployment(change: impl Fn(&mut Value)) -> Value {
    let mut object = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}});
    change(&mut object);
    object
}

#[test]
fn a_good_deployment_passes() {
    assert_eq!(refused(&resource::DEPLOYMENTS, deployment(|_| {})), "");
}

#[test]
fn deployments_say_what_is_wrong() {
    let kind = &resource::DEPLOYMENTS;
    let path = "/spec/template/spec/containers/0";
    let no_image = deployment(|o| drop(o.pointer_mut(path).unwrap().as_object_mut().unwrap().shift_remove("image")));
    assert_eq!(
        refused(kind, no_image),
        "Deployment.apps \"web\" is invalid: spec.template.spec.containers[0].image: Required value"
    );
    let labels = deployment(|o| o["spec"]["template"]["metadata"]["labels"]["app"] = "db".into());
    assert_eq!(
        refused(kind, labels),
        "Deployment.apps \"web\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not \
         match template `labels`"
    );
    let negative = deployment(|o| o["spec"]["replicas"] = (-1).into());
    assert!(refused(kind, negative).contains("spec.replicas: Invalid value: -1: must be greater than or equal to 0"));
    let stuck = deployment(|o| o["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}));
    assert!(refused(kind, stuck).contains("may not be 0 when `maxSurge` is 0"));
    let name = deployment(|o| o["metadata"]["name"] = "Web".into());
    assert!(refused(kind, name).contains("metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain"));
    let mount =
        deployment(|o| o.pointer_mut(path).unwrap()["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]));
    assert!(refused(kind, mount).contains("volumeMounts[0].name: Not found: \"v\""));
    let probe = deployment(|o| o.pointer_mut(path).unwrap()["livenessProbe"] = json!({"periodSeconds": 5}));
    assert!(refused(kind, probe).contains("livenessProbe: Required value: must specify a handler type"));
    let resources = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1500m", "memory": "1Gb"}});
    let resources = refused(kind, deployment(|o| o.pointer_mut(path).unwrap()["resources"] = resources.clone()));
    assert!(resources.contains("must be less than or equal to cpu limit of 1"), "{resources}");
    assert!(resources.contains("requests[memory]: Invalid value: \"1Gb\""), "{resources}");
}

#[test]
fn what_may_not_change_does_not() {
    let mut old = deployment(|_| {});
    defaults::apply(&resource::DEPLOYMENTS, &mut old);
    let mut new = old.clone();
    new["spec"]["selector"] = json!({"matchLabels": {"app": "web", "x": "y"}});
    new["spec"]["template"]["metadata"]["labels"]["x"] = "y".into();
    let error = validate(&resource::DEPLOYMENTS, &new, Some(&old)).unwrap_err().to_string();
    assert!(error.ends_with("field is immutable"), "{error}");
    let mut old = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    defaults::apply(&resource::PODS, &mut old);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "c".into();
    assert!(validate(&resource::PODS, &new, Some(&old)).is_ok());
    new["spec"]["containers"][0]["args"] = json!(["x"]);
    assert!(validate(&resource::PODS, &new, Some(&old)).is_err());
}

#[test]
fn other_kinds() {
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}});
    assert!(refused(&resource::JOBS, job).contains("restartPolicy: Unsupported value: \"Always\""));
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}, {"port": 81}]}});
    assert!(refused(&resource::SERVICES, service).contains("spec.ports[0].name: Required value"));
    let config = json!({"metadata": {"name": "c"}, "data": {"a/b": "c"}});
    assert!(refused(&resource::CONFIG_MAPS, config).contains("data[a/b]: Invalid value"));
    let secret = json!({"metadata": {"name": "c"}, "type": "kubernetes.io/tls"});
    assert!(refused(&resource::SECRETS, secret).contains("data[tls.crt]: Required value"));
    let namespace = json!({"metadata": {"name": "a.b"}});
    assert!(refused(&resource::NAMESPACES, namespace).contains("RFC 1123 label"));
}

#[test]
fn quantities() {
    for (text, expected) in
        [("1", Some(1.0)), ("500m", Some(0.5)), ("1Ki", Some(1024.0)), ("2e3", Some(2000.0)), ("1Gb", None), ("", None)]
    {
        assert_eq!(container::quantity(text), expected, "{text}");
    }
}
