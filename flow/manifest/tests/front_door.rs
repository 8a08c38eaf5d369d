//! What is at a path is found out, rendered, compared, explained and checked.

use manifest::{App, Change, Error, How, Kitchen, Schemas, Severity, Snapshot, differences, explain, recognise_path};

const HELPERS: &str = "\
{{- define \"web.labels\" -}}
app: {{ .Chart.Name }}
team: {{ .Values.team | quote }}
{{- end -}}
";

const TEMPLATE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels:
    {{- include \"web.labels\" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  template:
    spec:
      containers:
      - name: web
        image: \"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}\"
        {{- with .Values.resources }}
        resources:
          {{- toYaml . | nindent 10 }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
  namespace: {{ .Release.Namespace }}
";

const VALUES: &str = "\
# Defaults.
team: shop
replicas: 1
image:
  repository: nginx
  tag: \"1.27\"
resources:
  limits:
    cpu: 100m
    memory: 64Mi
";

fn chart() -> Snapshot {
    Snapshot::default()
        .with("/app/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
        .with("/app/values.yaml", VALUES)
        .with("/app/templates/_helpers.tpl", HELPERS)
        .with("/app/templates/web.yaml", TEMPLATE)
        .with("/prod.yaml", "image:\n  tag: \"2.0\"\n")
}

fn kustomization() -> Snapshot {
    Snapshot::default()
        .with("/base/kustomization.yaml", "resources: [app.yaml]\n")
        .with(
            "/base/app.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app\nspec:\n  replicas: 1\n  template:\n    spec:\n      containers:\n      - name: app\n        image: app:1\n",
        )
        .with(
            "/prod/kustomization.yaml",
            "resources: [../base]\nnamePrefix: prod-\nimages: [{ name: app, newTag: \"2\" }]\npatches: [{ path: more.yaml }]\n",
        )
        .with("/prod/more.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: app }\nspec: { replicas: 3 }\n")
}

fn traced() -> How {
    How { trace: true, ..How::default() }
}

#[test]
fn what_a_path_is() {
    let tree = chart()
        .with("/k/kustomization.yml", "")
        .with("/s/skaffold.yaml", "")
        .with("/p/a.yaml", "")
        .with("/web-1.0.0.tgz", "");
    for (path, app) in [
        ("/app", App::Chart),
        ("/app/Chart.yaml", App::Chart),
        ("/k", App::Kustomization),
        ("/k/kustomization.yml", App::Kustomization),
        ("/s", App::Skaffold),
        ("/p", App::Directory),
        ("/p/a.yaml", App::File),
        ("/web-1.0.0.tgz", App::Archive),
    ] {
        assert_eq!(recognise_path(&tree, path).unwrap(), app, "{path}");
    }
    assert!(matches!(recognise_path(&tree, "/absent"), Err(Error::Missing(_))));
    let below = Kitchen::default().render(&tree, "/", &How::default()).unwrap_err();
    assert!(matches!(&below, Error::Below { file, .. } if file == "/app"), "{below}");
}

#[test]
fn a_chart_is_rendered_with_values() {
    let mut how = How { name: "shop".into(), namespace: "prod".into(), ..How::default() };
    how.given.files.push("prod.yaml".into());
    how.given.typed.push("replicas=3".into());
    let output = Kitchen::default().render(&chart(), "/app", &how).unwrap();
    let names: Vec<String> = output.documents.iter().map(|document| document.name.to_string()).collect();
    assert_eq!(names, ["prod/Service/shop", "Deployment/shop"], "in the order of installing");
    let text = &output.documents[1].text;
    assert!(text.contains("image: \"nginx:2.0\"") && text.contains("replicas: 3"), "{text}");
}

#[test]
fn what_a_commit_changes_is_said_object_by_object() {
    let kitchen = Kitchen::default();
    let render = |tree: &Snapshot| kitchen.render(tree, "/app", &How::default()).unwrap().documents;
    let before = render(&chart());
    assert!(differences(&before, &before).is_empty());
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: { name: new }\n";
    let after = chart()
        .with("/app/values.yaml", VALUES.replace("replicas: 1", "replicas: 2"))
        .with("/app/templates/job.yaml", job);
    let found = differences(&before, &render(&after));
    let said: Vec<(String, Change)> = found.iter().map(|one| (one.name.to_string(), one.change)).collect();
    assert_eq!(said, [("Deployment/release-name".into(), Change::Changed), ("Job/new".into(), Change::Added)]);
    let text = found[0].unified("HEAD", "now");
    assert!(text.starts_with("--- HEAD/Deployment/release-name\n+++ now/Deployment/release-name\n@@"), "{text}");
    assert!(text.contains("\n-  replicas: 1\n+  replicas: 2\n"), "{text}");
    assert!(found[1].unified("HEAD", "now").starts_with("--- /dev/null\n"));
    let back = differences(&render(&after), &before);
    assert_eq!(back.last().unwrap().change, Change::Removed);
}

fn causes(tree: &Snapshot, path: &str, how: &How, wanted: &str) -> Vec<String> {
    let output = Kitchen::default().render(tree, path, how).unwrap();
    let explanation = explain(tree, path, how, &output, wanted).unwrap_or_else(|error| panic!("{wanted}: {error}"));
    let causes = explanation.causes.iter();
    causes
        .map(|cause| {
            let what = if cause.what.is_empty() { String::new() } else { format!(" {}", cause.what) };
            format!("{}{what} {}:{} {}", cause.role.word(), cause.at.file, cause.at.line, cause.text)
        })
        .collect()
}

#[test]
fn a_field_of_a_chart_names_its_template_line_and_values() {
    let mut how = traced();
    how.given.files.push("prod.yaml".into());
    how.given.typed.push("replicas=3".into());
    let causes = |wanted: &str| causes(&chart(), "/app", &how, wanted);
    assert_eq!(
        causes("deployment/release-name.spec.replicas"),
        [
            "template /app/templates/web.yaml:8 replicas: {{ .Values.replicas }}",
            "value .Values.replicas :0 --set replicas=3"
        ]
    );
    let image = causes("deployment/release-name.spec.template.spec.containers[web].image");
    assert_eq!(image[0].split(' ').nth(1), Some("/app/templates/web.yaml:13"), "{image:#?}");
    assert_eq!(
        image[1..],
        [
            "value .Values.image.repository /app/values.yaml:5 repository: nginx",
            "value .Values.image.tag /prod.yaml:2 tag: \"2.0\"",
        ]
    );
    assert_eq!(
        causes("deployment/release-name.metadata.labels.team").last().unwrap(),
        "value .Values.team /app/values.yaml:2 team: shop",
    );
    assert!(
        causes("deployment/release-name.metadata.labels.team")[1].starts_with("included /app/templates/_helpers.tpl:3")
    );
    let cpu = causes("deployment/release-name.spec.template.spec.containers[0].resources.limits.cpu");
    assert_eq!(cpu[0], "template /app/templates/web.yaml:16 {{- toYaml . | nindent 10 }}");
    assert_eq!(cpu[1], "condition .Values.resources /app/values.yaml:7 resources:");
}

#[test]
fn every_value_of_a_scalar_is_named() {
    let helpers = "{{- define \"repo\" -}}\n{{ .Values.a }}/{{ .Values.b }}\n{{- end -}}\n";
    let template = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: c }
data:
  plain: a:{{ .Values.a }}:{{ .Values.b }}
  single: '{{ .Values.a }}-{{ .Values.b }}'
  block: |
    first={{ .Values.a }}

    {{- if .Values.enabled }}
    second={{ .Values.b }}
    {{- end }}
  folded: >-
    {{ .Values.a }} x
    {{ .Values.b }}
  included: {{ include \"repo\" . }}:{{ .Values.tag }}
  other: {{ .Values.tag }}
";
    let tree = Snapshot::default()
        .with("/app/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
        .with("/app/values.yaml", "a: one\nb: two\ntag: three\nenabled: true\n")
        .with("/app/templates/_helpers.tpl", helpers)
        .with("/app/templates/c.yaml", template);
    let values = |field: &str| -> Vec<String> {
        let found = causes(&tree, "/app", &traced(), &format!("configmap/c.data.{field}"));
        let words = found.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        words.filter(|words| words.starts_with("value ") || words.starts_with("condition ")).collect()
    };
    let (a, b, tag) = ("value .Values.a", "value .Values.b", "value .Values.tag");
    for field in ["plain", "single", "folded"] {
        assert_eq!(values(field), [a, b], "{field}");
    }
    assert_eq!(values("block"), [a, b, "condition .Values.enabled"]);
    assert_eq!(values("included"), [a, b, tag]);
    assert_eq!(values("other"), [tag]);
    let lines = causes(&tree, "/app", &traced(), "configmap/c.data.included");
    assert!(lines[0].starts_with("template /app/templates/c.yaml:16 "), "{lines:#?}");
    assert!(lines[1].starts_with("included /app/templates/_helpers.tpl:2 "), "{lines:#?}");
}

#[test]
fn what_nobody_rendered_or_wrote_is_told_with_what_there_is() {
    let (tree, how) = (chart(), traced());
    let output = Kitchen::default().render(&tree, "/app", &how).unwrap();
    let said = |wanted: &str| explain(&tree, "/app", &how, &output, wanted).unwrap_err().to_string();
    assert!(said("job/x").contains("Deployment/release-name"));
    assert!(said("release-name.spec").contains("fits several"));
    let field = said("deployment/release-name.spec.replica");
    assert!(field.contains("replicas, template"), "{field}");
}

#[test]
fn a_field_of_a_kustomization_names_its_resource_and_every_change() {
    let causes = |wanted: &str| causes(&kustomization(), "/prod", &traced(), wanted);
    assert_eq!(
        causes("deployment/prod-app.spec.replicas"),
        [
            "file /base/app.yaml:6 1",
            "change PatchTransformer `more.yaml` of /prod/kustomization.yaml /prod/more.yaml:4 3",
        ]
    );
    let image = causes("deployment/prod-app.spec.template.spec.containers[app].image");
    assert_eq!(image[0], "file /base/app.yaml:11 app:1");
    assert!(image[1].starts_with("change ImageTagTransformer `app` of /prod/kustomization.yaml"), "{image:#?}");
    assert!(causes("deployment/prod-app.metadata.name")[1].starts_with("change PrefixTransformer"));
}

fn check(text: &str, version: (u32, u32)) -> Vec<(Severity, String, u64, String)> {
    let schemas = Schemas::built_in(version);
    let output = manifest::objects_of("a.yaml", text).unwrap();
    let found = output.documents.iter().flat_map(|document| schemas.check(document));
    found
        .map(|one| (one.severity, format!("{} ({})", one.message, one.hint), one.at.line, one.path.to_string()))
        .collect()
}

#[test]
fn objects_are_held_against_the_schemas() {
    let text = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: { version: 1.0 }
spec:
  replica: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      restartPolicy: always
      containers:
      - name: web
        image: nginx
        ports:
        - { containerPort: \"80\", protocol: tcp }
        resources: { limits: { memory: 64MB, cpu: 0.5 } }
        env: [{ name: A, value: yes }]
        env: []
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  ports: [{ targetPort: http }]
";
    let found = check(text, (1, 34));
    let said = |needle: &str| {
        let hit = found.iter().find(|one| one.1.contains(needle));
        let hit = hit.unwrap_or_else(|| panic!("{needle}: {found:#?}"));
        (hit.2, hit.3.clone())
    };
    assert_eq!(said("has no field `replica` (did you mean `replicas`?)"), (7, "spec.replica".into()));
    assert_eq!(said("`metadata.labels.version` has to be a text").0, 5);
    assert_eq!(said("cannot be `always` (did you mean `Always`?").0, 12);
    assert_eq!(said("take the quotes away").1, "spec.template.spec.containers[0].ports[0].containerPort");
    assert_eq!(said("cannot be `tcp`").0, 17);
    assert_eq!(said("`64MB`, which is no quantity (did you mean `64M`?)").0, 18);
    assert_eq!(said("`yes`, which YAML reads as true or false").0, 19);
    assert_eq!(said("is there twice").0, 20);
    assert_eq!(said("has no `port`").0, 26);
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn api_versions_that_are_gone_name_what_to_use() {
    let old = "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: { name: a }\n";
    let one = |text: &str, version| check(text, version).first().map(|one| (one.0, one.1.clone()));
    assert_eq!(
        one(old, (1, 25)),
        Some((
            Severity::Error,
            "PodDisruptionBudget in policy/v1beta1 was removed in Kubernetes 1.25 (use policy/v1)".into()
        ))
    );
    let warned = one(old, (1, 24)).unwrap();
    assert!(warned.0 == Severity::Warning && warned.1.contains("goes in 1.25"), "{warned:?}");
    let (_, said) = one("apiVersion: v1\nkind: Deployment\nmetadata: { name: a }\n", (1, 34)).unwrap();
    assert_eq!(said, "Kubernetes 1.34 has no kind Deployment in v1 (it is in apps/v1)");
    let (_, said) = one("apiVersion: v1\nkind: ConfigMaps\nmetadata: { name: a }\n", (1, 34)).unwrap();
    assert!(said.contains("did you mean ConfigMap?"), "{said}");
    assert_eq!(
        one("apiVersion: a.example/v1\nkind: X\nmetadata: { name: a }\n", (1, 34)).unwrap().0,
        Severity::Unknown
    );
}

#[test]
fn custom_resources_are_held_against_their_definitions() {
    let definition = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: caches.a.example }
spec:
  group: a.example
  scope: Namespaced
  names: { kind: Cache, plural: caches }
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: { type: integer, minimum: 1 }
              mode: { type: string, enum: [fast, safe] }
              any: { type: object, x-kubernetes-preserve-unknown-fields: true }
";
    let mut schemas = Schemas::built_in((1, 34));
    assert!(schemas.add_definition(&yaml::from_str(definition).unwrap()));
    let check = |spec: &str| -> Vec<String> {
        let text = format!("apiVersion: a.example/v1\nkind: Cache\nmetadata: {{ name: a }}\nspec: {spec}\n");
        let output = manifest::objects_of("a.yaml", &text).unwrap();
        schemas.check(&output.documents[0]).into_iter().map(|one| one.message).collect()
    };
    assert_eq!(check("{ size: 3, mode: fast, any: { thing: [1] } }"), Vec::<String>::new());
    assert_eq!(
        check("{ mode: slow, sise: 3 }"),
        ["`spec.mode` cannot be `slow`", "`spec` has no field `sise`", "`spec` has no `size`"]
    );
    assert_eq!(check("{ size: 0 }"), ["`spec.size` is 0, which is less than 1"]);
    let own = manifest::objects_of("crd.yaml", definition).unwrap();
    assert_eq!(schemas.check(&own.documents[0]), [], "the definition itself is well formed");
}

#[test]
fn a_mistake_in_a_chart_names_the_template_line() {
    let tree = chart().with("/app/templates/web.yaml", TEMPLATE.replace("replicas:", "replica:"));
    let output = Kitchen::default().render(&tree, "/app", &traced()).unwrap();
    let schemas = Schemas::built_in((1, 34));
    let found: Vec<_> = output.documents.iter().flat_map(|document| schemas.check(document)).collect();
    let replica = found.iter().find(|one| one.path.to_string() == "spec.replica").unwrap();
    assert_eq!(replica.at.to_string(), "/app/templates/web.yaml:8:1");
    assert!(found.iter().any(|one| one.message == "`spec` has no `selector`"), "{found:#?}");
}

#[test]
fn schemas_of_another_version_come_from_its_openapi_document() {
    let document = r##"{
      "info": { "version": "v1.40.1" },
      "definitions": {
        "io.k8s.api.x.v1.Thing": {
          "type": "object",
          "properties": { "apiVersion": { "type": "string" }, "kind": { "type": "string" },
            "metadata": { "type": "object" }, "spec": { "$ref": "#/definitions/io.k8s.api.x.v1.Spec" } },
          "x-kubernetes-group-version-kind": [{ "group": "", "kind": "Thing", "version": "v1" }]
        },
        "io.k8s.api.x.v1.Spec": { "type": "object", "required": ["a"], "properties": { "a": { "type": "boolean" } } }
      }
    }"##;
    let mut schemas = Schemas::built_in((1, 34));
    schemas.openapi("swagger.json", document.as_bytes(), false).unwrap();
    assert_eq!(schemas.version(), (1, 40));
    let output =
        manifest::objects_of("a.yaml", "apiVersion: v1\nkind: Thing\nmetadata: { name: x }\nspec: { a: 1 }\n").unwrap();
    let found = schemas.check(&output.documents[0]);
    assert_eq!(found[0].message, "`spec.a` has to be true or false, and is `1`");
    assert!(schemas.openapi("x", b"{}", false).unwrap_err().to_string().contains("no OpenAPI document"));
}

#[test]
fn a_skaffold_project_is_rendered_from_what_it_names() {
    let tree = kustomization()
        .with("/skaffold.yaml", "apiVersion: skaffold/v4beta11\nkind: Config\nmanifests: { rawYaml: [raw/*.yaml], kustomize: { paths: [prod] } }\n")
        .with("/raw/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: raw }\n");
    let output = Kitchen::default().render(&tree, "/skaffold.yaml", &How::default()).unwrap();
    let names: Vec<String> = output.documents.iter().map(|document| document.name.to_string()).collect();
    assert_eq!((output.app, names), (App::Skaffold, vec!["ConfigMap/raw".into(), "Deployment/prod-app".into()]));
}

/// Where the findings of a field are, of what a path makes.
fn found_at(tree: &Snapshot, path: &str, field: &str) -> Vec<String> {
    let output = Kitchen::default().render(tree, path, &traced()).unwrap();
    let schemas = Schemas::built_in((1, 34));
    let found = output.documents.iter().flat_map(|document| schemas.check(document));
    found.filter(|one| one.path.to_string() == field).map(|one| one.at.to_string()).collect()
}

#[test]
fn what_was_printed_anew_is_found_where_it_was_written() {
    let wrong = "# One.\napiVersion: v1\nkind: Service\nmetadata: { name: s }\nspec:\n  ports: []\n  tipe: X\n";
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: { name: t }\n  spec: { tipe: X }\n";
    let tree = kustomization()
        .with("/skaffold.yaml", "apiVersion: skaffold/v4beta11\nkind: Config\nmanifests: { rawYaml: [raw.yaml], kustomize: { paths: [prod] }, helm: { releases: [{ name: w, chartPath: app }] } }\n")
        .with("/app/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
        .with("/app/templates/a.yaml", "apiVersion: v1\nkind: Service\nmetadata: { name: u }\nspec: { tipe: X }\n")
        .with("/raw.yaml", format!("{wrong}---\n{list}"));
    assert_eq!(
        found_at(&tree, "/skaffold.yaml", "spec.tipe"),
        ["/raw.yaml:7:3", "/raw.yaml:15:11", "/app/templates/a.yaml"],
        "no line is better than a wrong one"
    );
    assert_eq!(found_at(&tree, "/raw.yaml", "spec.tipe"), ["/raw.yaml:7:3", "/raw.yaml:15:11"]);
    assert_eq!(found_at(&tree, "/prod", "spec"), ["/base/app.yaml:6:3"], "there is no selector");
    let tree = tree.with(
        "/prod/more.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: app }\nspec:\n  replicas: x\n",
    );
    assert_eq!(found_at(&tree, "/prod", "spec.replicas"), ["/prod/more.yaml:5:13"]);
    let generated = tree.with("/gen/kustomization.yaml", "configMapGenerator:\n- { name: env, literals: [A=1] }\n");
    let causes = causes(&generated, "/gen", &traced(), "cm/env.data.A");
    assert_eq!(causes, ["change ConfigMapGenerator `env` of /gen/kustomization.yaml /gen/kustomization.yaml:0 \"1\""]);
}

#[test]
fn globals_of_subcharts_are_found() {
    let tree = Snapshot::default()
        .with("/app/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies: [{ name: sub, version: 1.0.0, alias: other }]\n")
        .with("/app/values.yaml", "global: { registry: outer }\nother:\n  global: { inner: set }\n")
        .with("/app/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n")
        .with("/app/charts/sub/values.yaml", "global:\n  registry: own\n  only: here\n")
        .with("/app/charts/sub/templates/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\ndata:\n  a: {{ .Values.global.registry }}\n  b: {{ .Values.global.only }}\n  c: {{ .Values.global.inner }}\n");
    for (field, place) in
        [("a", "/app/values.yaml:1"), ("b", "/app/charts/sub/values.yaml:3"), ("c", "/app/values.yaml:3")]
    {
        let causes = causes(&tree, "/app", &traced(), &format!("cm/c.data.{field}"));
        assert!(causes[0].starts_with("template /app/charts/sub/templates/c.yaml:"), "{causes:#?}");
        assert!(causes[1].contains(place), "{field}: {causes:#?}");
    }
}

#[test]
fn an_old_version_is_not_told_to_use_what_it_does_not_have() {
    let scaler = "apiVersion: autoscaling/v2beta1\nkind: HorizontalPodAutoscaler\nmetadata: { name: a }\n";
    let said = |version| check(scaler, version).into_iter().next().unwrap().1;
    assert!(
        said((1, 22)).ends_with("(use autoscaling/v2beta2, and from Kubernetes 1.23 on autoscaling/v2)"),
        "{}",
        said((1, 22))
    );
    assert!(said((1, 24)).ends_with("(use autoscaling/v2)"), "{}", said((1, 24)));
}

#[test]
fn hooks_that_would_have_to_run_are_refused_and_tests_left_out() {
    let hook = |words: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{ name: h, annotations: {{ helm.sh/hook: \"{words}\" }} }}\n")
    };
    let objects = |words: &str| {
        let tree = chart().with("/app/templates/hook.yaml", hook(words));
        Kitchen::default().render(&tree, "/app", &How::default()).unwrap().objects("app").map(|objects| objects.len())
    };
    assert_eq!(objects("test,pre-delete").unwrap(), 2, "the Deployment and the Service");
    let said = objects("post-install, test").unwrap_err().to_string();
    assert!(said.starts_with("web/templates/hook.yaml: Pod/h is a hook (post-install)"), "{said}");
}
