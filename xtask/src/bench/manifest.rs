//! Rendering, side by side with the real `helm` and `kustomize`: as processes, since that is what everybody runs.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

#[derive(clap::Args)]
pub struct Options {
    /// The program to measure; built (release) when it is not named
    #[arg(long)]
    shipway: Option<PathBuf>,
    /// The real helm
    #[arg(long, env = "HELM", default_value = "helm")]
    helm: PathBuf,
    /// The real kustomize
    #[arg(long, env = "KUSTOMIZE", default_value = "kustomize")]
    kustomize: PathBuf,
    /// A real chart (unpacked) to render too
    #[arg(long)]
    chart: Option<PathBuf>,
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Kustomizations that are generated
    #[arg(long, default_value_t = 500)]
    kustomizations: usize,
    /// Apps of the monorepo that is generated
    #[arg(long, default_value_t = 1000)]
    apps: usize,
}

impl Options {
    pub fn program(&self) -> Option<&Path> {
        self.shipway.as_deref()
    }
}

/// Seconds that a command takes, or nothing when it is not there.
#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn once(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let took = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.lines().last().unwrap_or_default());
    Ok(took)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Both, one after the other, so that a busy machine is so for both.
fn pair(
    runs: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut theirs: impl FnMut() -> Result<f64>,
) -> Result<[f64; 2]> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        a.push(ours()?);
        b.push(theirs()?);
    }
    Ok([median(a), median(b)])
}

fn row(title: &str, [ours, theirs]: [f64; 2], aim: f64) {
    let ratio = theirs / ours;
    let aim_text = if aim > 0.0 { format!("≥ {aim}") } else { "–".to_owned() };
    let met = if ratio >= aim { "" } else { "  missed" };
    println!("{title:44} {:>10.1} {:>10.1} {ratio:>8.1} {aim_text:>8}{met}", ours * 1000.0, theirs * 1000.0);
}

pub fn run(options: &Options, built: &Path) -> Result<()> {
    let ours = options.shipway.as_deref().unwrap_or(built);
    let place = tempfile::tempdir().context("a directory for the bench")?;
    let has =
        |program: &Path, word: &str| Command::new(program).arg(word).output().is_ok_and(|out| out.status.success());
    let (helm, kustomize) = (has(&options.helm, "version"), has(&options.kustomize, "version"));
    for (there, what) in [(helm, "helm"), (kustomize, "kustomize")] {
        if !there {
            eprintln!("SKIPPED: no {what}; name it with --{what}");
        }
    }
    println!("{:44} {:>10} {:>10} {:>8} {:>8}", "", "ours, ms", "theirs, ms", "ratio", "aim");
    if helm {
        if let Some(chart) = &options.chart {
            row("a real chart, process by process", charts(options, ours, chart)?, 10.0);
        }
        let small = place.path().join("small");
        web_chart(&small, "web")?;
        row("a chart of five templates", charts(options, ours, &small)?, 10.0);
        umbrellas(options, ours, place.path())?;
    }
    if kustomize {
        kustomizations(options, ours, place.path())?;
    }
    monorepo(options, ours, place.path())
}

fn charts(options: &Options, ours: &Path, chart: &Path) -> Result<[f64; 2]> {
    pair(
        options.runs,
        || once(Command::new(ours).args(["helm", "template", "x"]).arg(chart)),
        || once(Command::new(&options.helm).args(["template", "x"]).arg(chart)),
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("it is in a directory")?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A chart as people write them: helpers, a Deployment, a Service, a ConfigMap, an Ingress.
fn web_chart(directory: &Path, name: &str) -> Result<()> {
    let helpers = "\
{{- define \"NAME.fullname\" -}}{{ printf \"%s-%s\" .Release.Name .Chart.Name | trunc 63 | trimSuffix \"-\" }}{{- end -}}
{{- define \"NAME.labels\" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf \"%s-%s\" .Chart.Name .Chart.Version | replace \"+\" \"_\" }}
{{- with .Values.labels }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}
";
    let deployment = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include \"NAME.fullname\" . }}
  labels: {{- include \"NAME.labels\" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas | default 1 }}
  selector: { matchLabels: { app.kubernetes.io/name: {{ .Chart.Name }} } }
  template:
    metadata:
      annotations: { checksum/config: {{ tpl (.Files.Get \"config.txt\") . | sha256sum }} }
      labels: {{- include \"NAME.labels\" . | nindent 8 }}
    spec:
      containers:
      - name: {{ .Chart.Name }}
        image: {{ printf \"%s:%s\" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
        env:
        {{- range $key, $value := .Values.env }}
        - { name: {{ $key | upper }}, value: {{ tpl $value $ | quote }} }
        {{- end }}
        {{- with .Values.resources }}
        resources: {{- toYaml . | nindent 10 }}
        {{- end }}
";
    let service = "\
apiVersion: v1
kind: Service
metadata: { name: {{ include \"NAME.fullname\" . }}, labels: {{ include \"NAME.labels\" . | fromYaml | toJson }} }
spec: { ports: [{ port: {{ .Values.port }} }], selector: { app.kubernetes.io/name: {{ .Chart.Name }} } }
";
    let config = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ include \"NAME.fullname\" . }} }
data:
  config: |
    {{- tpl (.Files.Get \"config.txt\") . | nindent 4 }}
";
    let ingress = "\
{{- if .Values.ingress.enabled }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: {{ include \"NAME.fullname\" . }} }
spec:
  rules:
  {{- range .Values.ingress.hosts }}
  - host: {{ tpl . $ | quote }}
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: {{ include \"NAME.fullname\" $ }}, port: { number: {{ $.Values.port }} } } } }] }
  {{- end }}
{{- end }}
";
    let values = "\
replicas: 2
image: { repository: example/web, tag: \"1.2.3\" }
port: 8080
labels: { team: \"{{ .Values.global.team | default \\\"none\\\" }}\" }
env: { host: \"{{ .Release.Name }}.example\", mode: fast, level: \"{{ .Values.port }}\" }
resources: { limits: { cpu: 100m, memory: 64Mi }, requests: { cpu: 50m, memory: 32Mi } }
ingress: { enabled: true, hosts: [\"{{ .Release.Name }}.example.com\"] }
global: { team: shop }
";
    let chart = format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\nappVersion: \"1\"\n");
    write(&directory.join("Chart.yaml"), &chart)?;
    write(&directory.join("values.yaml"), values)?;
    write(&directory.join("config.txt"), &"key: {{ .Values.port }} {{ .Release.Name }}\n".repeat(20))?;
    for (file, text) in [
        ("_helpers.tpl", helpers),
        ("deployment.yaml", deployment),
        ("service.yaml", service),
        ("config.yaml", config),
        ("ingress.yaml", ingress),
    ] {
        write(&directory.join("templates").join(file), &text.replace("NAME", name))?;
    }
    Ok(())
}

fn umbrellas(options: &Options, ours: &Path, place: &Path) -> Result<()> {
    let mut before: Option<(usize, f64)> = None;
    for count in [15, 30, 60] {
        let directory = place.join(format!("umbrella-{count}"));
        let mut chart = String::from("apiVersion: v2\nname: umbrella\nversion: 1.0.0\ndependencies:\n");
        for number in 0..count {
            let name = format!("part{number}");
            web_chart(&directory.join("charts").join(&name), &name)?;
            let _ = writeln!(chart, "- {{ name: {name}, version: 1.0.0 }}");
        }
        write(&directory.join("Chart.yaml"), &chart)?;
        write(&directory.join("values.yaml"), "global: { team: all }\n")?;
        let times = charts(options, ours, &directory)?;
        row(&format!("umbrella of {count} subcharts with tpl"), times, if count == 60 { 50.0 } else { 0.0 });
        if let Some((fewer, took)) = before {
            let growth = times[0] / took;
            println!("{:44} {growth:>10.2} times the time for {:.0} times the charts", "", count as f64 / fewer as f64);
        }
        before = Some((count, times[0]));
    }
    Ok(())
}

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  replicas: 1
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      containers:
      - { name: app, image: app:1, ports: [{ containerPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: app }
spec: { ports: [{ port: 80, targetPort: 8080 }], selector: { app: app } }
";

/// A base that all share and so many overlays.
fn overlays(directory: &Path, count: usize) -> Result<()> {
    write(&directory.join("base/kustomization.yaml"), "resources: [app.yaml]\n")?;
    write(&directory.join("base/app.yaml"), DEPLOYMENT)?;
    for number in 0..count {
        let overlay = directory.join(format!("apps/app{number}"));
        let kustomization = format!(
            "resources: [../../base]\nnamePrefix: n{number}-\nnamespace: n{number}\nlabels: [{{ pairs: {{ app: n{number} }}, includeSelectors: true }}]\nimages: [{{ name: app, newTag: v{number} }}]\nconfigMapGenerator: [{{ name: settings, literals: [number={number}] }}]\npatches: [{{ path: patch.yaml }}]\n"
        );
        write(&overlay.join("kustomization.yaml"), &kustomization)?;
        let patch = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: app }}\nspec: {{ replicas: {} }}\n",
            number % 5 + 1
        );
        write(&overlay.join("patch.yaml"), &patch)?;
    }
    Ok(())
}

fn kustomizations(options: &Options, ours: &Path, place: &Path) -> Result<()> {
    let (directory, out) = (place.join("overlays"), place.join("out"));
    overlays(&directory, options.kustomizations)?;
    let one = directory.join("apps/app0");
    let times = pair(
        options.runs,
        || once(Command::new(ours).args(["kustomize", "build"]).arg(&one)),
        || once(Command::new(&options.kustomize).arg("build").arg(&one)),
    )?;
    row("one kustomization, process by process", times, 0.0);
    let apps = directory.join("apps");
    let all = || once(Command::new(ours).args(["render", "--all", "--no-cache", "-o"]).arg(&out).arg(&apps));
    // Theirs has no way to build many: one process each, as every tool does it.
    let each = || {
        let mut sum = 0.0;
        for number in 0..options.kustomizations {
            sum += once(Command::new(&options.kustomize).arg("build").arg(apps.join(format!("app{number}"))))?;
        }
        Ok(sum)
    };
    let times = pair(options.runs.min(3), all, each)?;
    row(&format!("{} kustomizations", options.kustomizations), times, 20.0);
    Ok(())
}

/// Half charts, half overlays; then one line of one app changes.
fn monorepo(options: &Options, ours: &Path, place: &Path) -> Result<()> {
    let (directory, out) = (place.join("monorepo"), place.join("rendered"));
    overlays(&directory, options.apps / 2)?;
    for number in 0..options.apps / 2 {
        web_chart(&directory.join(format!("charts/web{number}")), &format!("web{number}"))?;
    }
    let cache = place.join("cache");
    let render = || -> Result<f64> {
        once(Command::new(ours).args(["render", "--all", "-o"]).arg(&out).arg(&directory).env("XDG_CACHE_HOME", &cache))
    };
    let cold = render()?;
    let mut warm = Vec::new();
    let changed = directory.join("apps/app7/patch.yaml");
    let text = fs::read_to_string(&changed)?;
    for number in 0..options.runs.max(1) {
        fs::write(&changed, text.replace("replicas:", &format!("minReadySeconds: {number}, replicas:")))?;
        warm.push(render()?);
    }
    let said = Command::new(ours)
        .args(["render", "--all", "-o"])
        .arg(&out)
        .arg(&directory)
        .env("XDG_CACHE_HOME", &cache)
        .output()?;
    let said = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    row(&format!("{} apps: one line changed, and all", options.apps), [median(warm), cold], 0.0);
    println!("{:44} without a change: {said}", "");
    Ok(())
}
