//! `helmCharts`, with charts among the files. The golden output is what kustomize with Helm 3 prints.

use crate::{Inflate, Memory, Options, build};

const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-cm\n  namespace: {{ .Release.Namespace }}\n  labels:\n    chart: {{ .Chart.Name }}-{{ .Chart.Version }}\ndata:\n  values: |\n{{ toYaml .Values | indent 4 }}\n  kube: {{ .Capabilities.KubeVersion.Version | eq \"v1.25.3\" | quote }}\n  has: {{ .Capabilities.APIVersions.Has \"x.example/v1\" | quote }}\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}-test\n  annotations:\n    helm.sh/hook: test\nspec: {containers: [{name: t, image: busybox}]}\n---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {{ .Release.Name }}-job\n  annotations:\n    helm.sh/hook: pre-install\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: t, image: busybox}]}}}\n";

const KUSTOMIZATION: &str = "namespace: live\nhelmGlobals:\n  chartHome: charts\nhelmCharts:\n- name: web\n  releaseName: one\n  includeCRDs: true\n  valuesInline:\n    replicas: 3\n    nested:\n      b: null\n      c: 4\n    list: [z]\n  additionalValuesFiles:\n  - more.yaml\n- name: web\n  releaseName: two\n  namespace: other\n  skipHooks: true\n  valuesFile: more.yaml\n  valuesMerge: merge\n  valuesInline:\n    replicas: 9\n    extra: \"yes\"\n  apiVersions: [x.example/v1]\n  kubeVersion: 1.25.3\n- name: web\n  releaseName: three\n  valuesMerge: replace\n  skipTests: true\n  valuesInline:\n    only: this\ngenerators:\n- |-\n  apiVersion: builtin\n  kind: HelmChartInflationGenerator\n  metadata:\n    name: four\n  name: web\n  releaseName: four\n  chartHome: charts\n  valuesInline: {replicas: 4}\nnamePrefix: p-\n";

fn files(kustomization: &str) -> Memory {
    Memory::default()
        .with("/app/kustomization.yaml", kustomization)
        .with("/app/more.yaml", "replicas: 5\nnested: {d: 5}\n")
        .with("/app/charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.2.3\nappVersion: \"7\"\n")
        .with("/app/charts/web/values.yaml", "replicas: 1\nnested:\n  a: 1\n  b: 2\nlist: [x, y]\n")
        .with(
            "/app/charts/web/crds/t.yaml",
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: ts.x.example\nspec: {group: x.example, scope: Namespaced, names: {kind: T, plural: ts}, versions: []}\n",
        )
        .with("/app/charts/web/templates/all.yaml", TEMPLATE)
}

fn inflated(kustomization: &str) -> Result<String, String> {
    let inflate = Inflate { flavor: chart::Flavor::Helm3, ..Inflate::new() };
    let options = Options { charts: Some(&inflate), ..Options::default() };
    build(&files(kustomization), "/app", &options).map(|built| built.text()).map_err(|error| error.to_string())
}

#[test]
fn charts_are_inflated_as_kustomize_does() {
    insta::assert_snapshot!(inflated(KUSTOMIZATION).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn the_old_field_does_what_the_new_one_does() {
    let old = "helmChartInflationGenerator:\n- {chartName: web, releaseName: r, values: more.yaml, valuesLocal: {replicas: 2}}\n";
    let new = "helmCharts:\n- {name: web, releaseName: r, valuesFile: more.yaml, valuesInline: {replicas: 2}}\n";
    assert_eq!(inflated(old), inflated(new));
    assert!(inflated(new).unwrap().contains("replicas: 2\n"));
}

#[test]
fn what_is_wrong_with_a_chart_is_told() {
    for (text, expected) in [
        ("helmCharts: [{releaseName: x}]\n", "chart name cannot be empty"),
        ("helmCharts: [{name: none}]\n", "no repo specified for pull, no chart found at '/app/charts/none'"),
        (
            "helmCharts: [{name: none, repo: 'https://charts.example', version: 1.0.0}]\n",
            "the chart \"none\" is in https://charts.example, and nothing is fetched unless it is allowed: allow it (`--allow-remote`), or keep a copy in '/app/charts/none-1.0.0/none'",
        ),
        ("helmCharts: [{name: web, valuesMerge: mix}]\n", "valuesMerge must be one of [merge override replace]"),
        ("helmCharts: [{name: web, valuesFile: ../x}]\n", "open /x: no such file or directory"),
        (
            "helmCharts: [{name: web, additionalValuesFiles: [none.yaml]}]\n",
            "could not load additionalValuesFile: open /app/none.yaml: no such file or directory",
        ),
    ] {
        assert_eq!(inflated(text).unwrap_err(), expected, "{text}");
    }
}
