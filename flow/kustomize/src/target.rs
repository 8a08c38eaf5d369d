//! One kustomization after another: what it names, makes and changes.

use std::sync::Arc;

use crate::{
    Built, Error, FileError, Files, Kustomization, LoadRestrictor, NAMES, Object, Options, Result,
    config::{self, Config},
    customize::{self, End},
    generate::{self, Made},
    image, json_patch,
    kustomization::{COMPONENT, ReplacementField, Var, read_value},
    namespace::{Setting, Subjects},
    order,
    origin::Origin,
    patch, path, plugin, read, reference, replacement,
    resource::Resource,
    resources::Resources,
    schema::{self, Schema},
    tree, variable,
};

/// The version that the label `app.kubernetes.io/managed-by` names.
const MANAGED_BY: &str = "kustomize-v5.8.1";
pub(crate) const MAX_DEPTH: usize = 64;

/// Objects on their way, with what goes along.
#[derive(Default)]
pub(crate) struct Gathered {
    pub resources: Resources,
    config: Option<Arc<Config>>,
    vars: Vec<Var>,
}

impl Gathered {
    fn merge_config(&mut self, more: &Arc<Config>) -> Result<()> {
        self.config = Some(match &self.config {
            None => more.clone(),
            Some(mine) => config::merged(mine, more)?,
        });
        Ok(())
    }
}

/// One kustomization, and where it is.
pub(crate) struct Target<'a> {
    files: &'a dyn Files,
    root: String,
    /// The roots that led here, this one last.
    visited: Vec<String>,
    /// Nothing outside may be read: the root of a repository that was brought from elsewhere.
    fence: Option<String>,
    options: &'a Options<'a>,
    pub kustomization: Kustomization,
    file: &'static str,
    origin: Option<Origin>,
    schema: Arc<Schema>,
    chart_namespace: String,
    warnings: &'a std::cell::RefCell<Vec<String>>,
}

pub fn build(files: &dyn Files, root: &str, options: &Options<'_>) -> Result<Built> {
    let warnings = std::cell::RefCell::new(Vec::new());
    let root = match files.canonical(root) {
        Some(found) if files.is_dir(&found) => found,
        _ => return Err(Error::wrong(format!("'{root}' doesn't exist or is no directory"))),
    };
    let mut target = Target {
        files,
        root: root.clone(),
        visited: vec![root],
        fence: None,
        options,
        kustomization: Kustomization::default(),
        file: NAMES[0],
        origin: None,
        schema: schema::built_in(),
        chart_namespace: String::new(),
        warnings: &warnings,
    };
    target.load()?;
    if !target.kustomization.build_metadata.is_empty() {
        target.origin = Some(Origin::default());
    }
    let mut gathered = target.accumulate(Gathered::default())?;
    customize::hashes(&mut gathered.resources)?;
    target.observe("HashTransformer", "", &gathered.resources.list);
    let config = gathered.config.clone().unwrap_or_else(config::defaults);
    reference::update(&mut gathered.resources, &config.references)?;
    target.observe("NameReferenceTransformer", "", &gathered.resources.list);
    let unused = variable::resolve(&mut gathered.resources, &gathered.vars, &config.variables)?;
    if !unused.is_empty() {
        let warning = format!("well-defined vars that were never replaced: {}", unused.join(","));
        warnings.borrow_mut().push(warning);
    }
    gathered.resources.list.retain(
        |resource| !matches!(resource.annotation("config.kubernetes.io/local-config"), Some(value) if value != "false"),
    );
    order::sort(&mut gathered.resources, target.kustomization.sort_options.as_ref(), !options.keep_order)?;
    let metadata = &target.kustomization.build_metadata;
    let has = |name: &str| metadata.iter().any(|known| known == name);
    let (origins, transformations) = (has("originAnnotations"), has("transformerAnnotations"));
    let managed = options.managed_by || has("managedByLabel");
    let mut objects = Vec::with_capacity(gathered.resources.list.len());
    for resource in gathered.resources.list {
        objects.push(finished(resource, origins, transformations, managed)?);
    }
    let warnings = warnings.into_inner();
    Ok(Built { objects, warnings })
}

/// Annotations that only kustomize itself reads.
const INTERNAL: [&str; 9] = [
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
    "internal.config.kubernetes.io/needsHashSuffix",
];

fn finished(mut resource: Resource, origins: bool, transformations: bool, managed: bool) -> Result<Object> {
    if managed {
        let metadata = tree::map_under(&mut resource.node, "metadata")?;
        tree::set_string(tree::map_under(metadata, "labels")?, "app.kubernetes.io/managed-by", MANAGED_BY);
    }
    let had = tree::lookup(&resource.node, &["metadata", "annotations"]).is_some();
    let mut annotations = resource.annotations();
    annotations.retain(|(key, _)| !INTERNAL.contains(&key.as_str()));
    if let Some(origin) = resource.origin.take().filter(|_| origins) {
        annotations.push(("config.kubernetes.io/origin".to_owned(), origin.text()));
    }
    if transformations && !resource.transformations.is_empty() {
        let text = Origin::list(&resource.transformations);
        annotations.push(("alpha.config.kubernetes.io/transformations".to_owned(), text));
    }
    if had || !annotations.is_empty() {
        resource.set_strings("annotations", annotations)?;
    }
    let id = resource.id();
    Ok(Object { id, value: tree::to_value(resource.node)? })
}

impl<'a> Target<'a> {
    fn observe(&self, kind: &str, what: &str, resources: &[Resource]) {
        if let Some(observer) = self.options.observer {
            let objects: Vec<_> = resources.iter().map(|resource| (resource.first_id(), &resource.node)).collect();
            observer.step(&path::join(&self.root, self.file), kind, what, &objects);
        }
    }

    /// Finds and reads the kustomization of the root.
    fn load(&mut self) -> Result<()> {
        let (name, file, text) = find(self.files, &self.root)?;
        let (kustomization, warnings) = Kustomization::read(&text, &file)?;
        self.file = name;
        self.kustomization = kustomization;
        self.warnings.borrow_mut().extend(warnings);
        if let Some(version) = self.kustomization.openapi.get("path").cloned() {
            let text = self.text(&version)?;
            self.schema = Arc::new(Schema::read(&text, &version)?);
        }
        Ok(())
    }

    /// The content of a file that the kustomization names.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        if name.starts_with("http://") || name.starts_with("https://") {
            let Some(remote) = self.options.remote else { return Err(refused(name)) };
            return remote.text(name).map(String::into_bytes).map_err(Error::Wrong);
        }
        let path = path::join(&self.root, name);
        let Some(real) = self.files.canonical(&path) else { return Err(FileError::NotFound(path).into()) };
        if self.files.is_dir(&real) {
            return Err(FileError::Directory(path).into());
        }
        let fence = match (self.options.load_restrictor, &self.fence) {
            (LoadRestrictor::RootOnly, _) => Some(&self.root),
            (LoadRestrictor::None, fence) => fence.as_ref(),
        };
        if let Some(root) = fence.filter(|root| !path::within(&real, root)) {
            return Err(FileError::Outside { file: path, root: root.clone() }.into());
        }
        Ok(self.files.read(&real)?)
    }

    pub fn text(&self, name: &str) -> Result<String> {
        utf8(self.bytes(name)?, name)
    }

    /// The kustomization in a directory that this one names.
    fn below(&self, name: &str) -> Result<Target<'a>> {
        if name.is_empty() {
            return Err(Error::wrong("new root cannot be empty"));
        }
        let path = path::join(&self.root, name);
        let absent = || {
            Error::wrong(format!(
                "must build at directory: not a valid directory: evalsymlink failure on '{path}' : lstat {path}: no such file or directory"
            ))
        };
        let root = root_below(self.files, &self.root, name)?.ok_or_else(absent)?;
        if let Some(fence) = self.fence.as_ref().filter(|fence| !path::within(&root, fence)) {
            return Err(Error::Refused(format!(
                "security; bases in kustomizations found in cloned git repos must be within the repo, but base '{root}' is outside '{fence}'"
            )));
        }
        let visited = visit(&self.visited, &root)?;
        Ok(Target {
            files: self.files,
            root,
            visited,
            fence: self.fence.clone(),
            options: self.options,
            kustomization: Kustomization::default(),
            file: NAMES[0],
            origin: self.origin.as_ref().map(|origin| origin.append(name)),
            schema: self.schema.clone(),
            chart_namespace: match self.kustomization.namespace.as_str() {
                "" => self.chart_namespace.clone(),
                namespace => namespace.to_owned(),
            },
            warnings: self.warnings,
        })
    }

    /// Everything that the kustomization makes of `gathered` and what it names.
    pub fn accumulate(&self, mut gathered: Gathered) -> Result<Gathered> {
        let k = &self.kustomization;
        self.resources(&mut gathered, &k.resources).map_err(|error| error.during("accumulating resources"))?;
        gathered.merge_config(&config::defaults())?;
        for name in &k.configurations {
            let written = Config::read(&self.text(name)?, name)?;
            gathered.merge_config(&Arc::new(written))?;
        }
        for name in &k.crds {
            let found = plugin::crd_config(&self.text(name)?, name).map_err(|error| error.during("loading CRDs"))?;
            gathered.merge_config(&Arc::new(found))?;
        }
        self.generators(&mut gathered)?;
        for name in &k.components {
            gathered = self.directory(gathered, name, true).map_err(|error| error.during("accumulating components"))?;
        }
        self.transformers(&mut gathered)?;
        for validator in self.plugins(&k.validators)? {
            self.validate(&mut gathered, &validator)?;
        }
        variable::claim(&mut gathered.resources, &k.vars)?;
        variable::merge(&mut gathered.vars, &k.vars).map_err(|error| error.during("merging vars"))?;
        Ok(gathered)
    }

    /// Files and directories, in the order in which they are named.
    fn resources(&self, gathered: &mut Gathered, names: &[String]) -> Result<()> {
        for name in names {
            let Err(error) = self.resource_file(gathered, name) else { continue };
            let file = !matches!(
                error.root(),
                Error::File(FileError::NotFound(_) | FileError::Directory(_)) | Error::Refused(_)
            );
            let remote = path::is_remote(name);
            let brought = remote && self.options.remote.is_some();
            if !brought && (file || (remote && !matches!(error.root(), Error::File(_)))) {
                return Err(error);
            }
            let taken = std::mem::take(gathered);
            *gathered = self
                .directory(taken, name, false)
                .map_err(|inner| inner.during(format!("accumulation err='{error}'")))?;
        }
        Ok(())
    }

    fn resource_file(&self, gathered: &mut Gathered, name: &str) -> Result<()> {
        let doing = || format!("accumulating resources from '{name}'");
        let mut found =
            self.text(name).and_then(|text| read::resources(&text, name)).map_err(|error| error.during(doing()))?;
        if let Some(origin) = &self.origin {
            for resource in &mut found {
                resource.origin = Some(origin.append(name));
            }
        }
        self.observe("Resource", name, &found);
        gathered.resources.append_all(found).map_err(|error| error.during(format!("merging resources from '{name}'")))
    }

    /// A base (its result is added), or a component (which works on what there is).
    fn directory(&self, gathered: Gathered, name: &str, component: bool) -> Result<Gathered> {
        if path::is_remote(name) && self.files.canonical(&path::join(&self.root, name)).is_none() {
            return self.repository(gathered, name, component);
        }
        self.run(self.below(name)?, gathered, component)
    }

    fn run(&self, mut target: Target<'_>, mut gathered: Gathered, component: bool) -> Result<Gathered> {
        target.load().map_err(|error| error.during(format!("couldn't make target for path '{}'", target.root)))?;
        target.kustomization.build_metadata.clone_from(&self.kustomization.build_metadata);
        let kind = &target.kustomization.kind;
        if component && kind != COMPONENT {
            return Err(Error::wrong(format!(
                "expected kind '{COMPONENT}' for path '{}' but got '{kind}'",
                target.root
            )));
        }
        if !component && kind == COMPONENT {
            return Err(Error::wrong(format!("expected kind != '{COMPONENT}' for path '{}'", target.root)));
        }
        let doing = |error: Error| error.during(format!("recursed accumulation of path '{}'", target.root));
        if component {
            return target.accumulate(gathered).map_err(doing);
        }
        let below = target.accumulate(Gathered::default()).map_err(doing)?;
        let merging = |error: Error| error.during(format!("recursed merging from path '{}'", target.root));
        gathered.resources.append_all(below.resources.list).map_err(merging)?;
        if let Some(config) = &below.config {
            gathered.merge_config(config)?;
        }
        variable::merge(&mut gathered.vars, &below.vars).map_err(merging)?;
        Ok(gathered)
    }

    fn repository(&self, gathered: Gathered, name: &str, component: bool) -> Result<Gathered> {
        let Some(remote) = self.options.remote else { return Err(refused(name)) };
        if self.visited.iter().any(|visited| visited == name) {
            return Err(Error::Cycle { candidate: name.to_owned(), visited: name.to_owned() });
        }
        let (files, root) = remote.repository(name).map_err(Error::Wrong)?;
        let root = files.canonical(&root).ok_or_else(|| Error::wrong(format!("'{root}' is not in {name}")))?;
        let mut visited = self.visited.clone();
        visited.push(name.to_owned());
        let target = Target {
            files: files.as_ref(),
            root: root.clone(),
            visited,
            fence: Some("/".to_owned()),
            options: self.options,
            kustomization: Kustomization::default(),
            file: NAMES[0],
            origin: self.origin.as_ref().map(|_| Origin { repo: name.to_owned(), ..Origin::default() }),
            schema: self.schema.clone(),
            chart_namespace: self.chart_namespace.clone(),
            warnings: self.warnings,
        };
        self.run(target, gathered, component)
    }

    fn generators(&self, gathered: &mut Gathered) -> Result<()> {
        let k = &self.kustomization;
        let load = |name: &str| self.bytes(name);
        for (made, kind, list) in [
            (Made::ConfigMap, "ConfigMapGenerator", &k.config_map_generator),
            (Made::Secret, "SecretGenerator", &k.secret_generator),
        ] {
            for args in list {
                let options = generate::options(args.options.as_ref(), k.generator_options.as_ref());
                let mut resource = generate::generate(made, args, options.as_ref(), &load)?;
                resource.origin = self.origin.as_ref().map(|origin| origin.built_in(self.file, kind));
                self.observe(kind, &args.name, std::slice::from_ref(&resource));
                gathered
                    .resources
                    .absorb_all(vec![resource])
                    .map_err(|error| error.during(format!("merging from generator {kind} {:?}", args.name)))?;
            }
        }
        let globals = k.helm_globals.clone().unwrap_or_default();
        for chart in &k.helm_charts {
            let mut chart = chart.clone();
            if chart.namespace.is_empty() {
                chart.namespace =
                    if k.namespace.is_empty() { self.chart_namespace.clone() } else { k.namespace.clone() };
            }
            let mut made = self.inflate(&globals, &chart)?;
            for resource in &mut made {
                resource.origin =
                    self.origin.as_ref().map(|origin| origin.built_in(self.file, "HelmChartInflationGenerator"));
            }
            gathered.resources.absorb_all(made)?;
        }
        for generator in self.plugins(&k.generators)? {
            let mut made = plugin::generate(self, &generator, &load)?;
            for resource in &mut made {
                resource.origin.clone_from(&generator.origin);
            }
            gathered.resources.absorb_all(made)?;
        }
        Ok(())
    }

    /// What a chart makes.
    pub fn inflate(&self, globals: &crate::ChartGlobals, chart: &crate::Chart) -> Result<Vec<Resource>> {
        let Some(charts) = self.options.charts else {
            return Err(Error::Refused(format!(
                "must specify --enable-helm to inflate the chart {:?} of {}",
                chart.name,
                path::join(&self.root, self.file)
            )));
        };
        let load = |name: &str| self.text(name).map_err(|error| error.to_string());
        let text = charts.inflate(self.files, &self.root, &load, globals, chart).map_err(Error::Wrong)?;
        let mut made = read::resources(&text, &chart.name)?;
        made.iter_mut().for_each(|resource| resource.from_chart = true);
        Ok(made)
    }

    /// Configurations of plugins: inline, or from files and directories.
    fn plugins(&self, entries: &[String]) -> Result<Vec<Resource>> {
        let mut all = Gathered::default();
        let mut paths = Vec::new();
        for entry in entries {
            match read::resources(entry, "") {
                Ok(found) => all.resources.append_all(found)?,
                Err(_) => paths.push(entry.clone()),
            }
        }
        self.resources(&mut all, &paths)?;
        Ok(all.resources.list)
    }

    fn transformers(&self, gathered: &mut Gathered) -> Result<()> {
        let k = &self.kustomization;
        let config = gathered.config.clone().unwrap_or_else(config::defaults);
        let resources = &mut gathered.resources;
        let done = |resources: &mut Resources, kind: &str, what: &str| {
            resources.drop_gone();
            self.observe(kind, what, &resources.list);
            if let Some(origin) = &self.origin {
                let change = origin.built_in(self.file, kind);
                for resource in &mut resources.list {
                    match &resource.origin {
                        None => resource.origin = Some(change.clone()),
                        Some(_) => resource.transformations.push(change.clone()),
                    }
                }
            }
        };
        if !k.patches_strategic_merge.is_empty() {
            let mut patches = Vec::new();
            for entry in &k.patches_strategic_merge {
                let inline = read::resources(entry, "").ok().filter(|found| !found.is_empty());
                patches.extend(match inline {
                    Some(found) => found,
                    None => read::resources(&self.text(entry)?, entry)?,
                });
            }
            for patch in &patches {
                let at = resources.by_id(&patch.first_id())?;
                patch::merge_selected(resources, &self.schema, patch, &[at])?;
            }
            done(resources, "PatchStrategicMergeTransformer", "");
        }
        for patch in &k.patches {
            patch::apply(resources, &self.schema, patch, |name| self.text(name))?;
            done(resources, "PatchTransformer", &patch.path);
        }
        if !k.namespace.is_empty() {
            let setting = Setting {
                namespace: &k.namespace,
                specs: &config.namespace,
                subjects: Subjects::Default,
                unset_only: false,
            };
            setting.apply(resources)?;
            done(resources, "NamespaceTransformer", "");
        }
        if !k.name_prefix.is_empty() {
            customize::affix(resources, End::Prefix, &k.name_prefix, &config.name_prefix)?;
            done(resources, "PrefixTransformer", "");
        }
        if !k.name_suffix.is_empty() {
            customize::affix(resources, End::Suffix, &k.name_suffix, &config.name_suffix)?;
            done(resources, "SuffixTransformer", "");
        }
        for label in &k.labels {
            let mut specs: Vec<_> = label.fields.iter().map(crate::FieldSpec::from).collect();
            config::merge_specs(&mut specs, &config.labels)?;
            if label.include_selectors {
                config::merge_specs(&mut specs, &config.common_labels)?;
            } else {
                if label.include_templates {
                    config::merge_specs(&mut specs, &config.template_labels)?;
                }
                if label.include_volume_claim_templates {
                    config::merge_specs(&mut specs, &config.claim_labels)?;
                }
                config::merge_specs(
                    &mut specs,
                    &[crate::FieldSpec::new(crate::Gvk::default(), "metadata/labels", true)],
                )?;
            }
            customize::mark(resources, &label.pairs, &specs)?;
            done(resources, "LabelTransformer", "");
        }
        if !k.common_labels.is_empty() {
            customize::mark(resources, &k.common_labels, &config.common_labels)?;
        }
        if !k.common_labels.is_empty() || !k.labels.is_empty() {
            done(resources, "LabelTransformer", "");
        }
        if !k.common_annotations.is_empty() {
            customize::mark(resources, &k.common_annotations, &config.common_annotations)?;
            done(resources, "AnnotationsTransformer", "");
        }
        for entry in &k.patches_json6902 {
            self.json6902(resources, entry)?;
            done(resources, "PatchJson6902Transformer", &entry.path);
        }
        for replica in &k.replicas {
            customize::replicas(resources, replica, &config.replicas)?;
            done(resources, "ReplicaCountTransformer", &replica.name);
        }
        for entry in &k.images {
            image::apply(resources, entry, &config.images)?;
            done(resources, "ImageTagTransformer", &entry.name);
        }
        if !k.replacements.is_empty() {
            for entry in self.replacements(&k.replacements)? {
                replacement::apply(resources, &entry)?;
            }
            done(resources, "ReplacementTransformer", "");
        }
        for transformer in self.plugins(&k.transformers)? {
            plugin::transform(self, resources, &self.schema, &transformer)?;
            resources.drop_gone();
        }
        Ok(())
    }

    /// An entry of the old `patchesJson6902`.
    pub fn json6902(&self, resources: &mut Resources, entry: &crate::Patch) -> Result<()> {
        let text = match (entry.path.is_empty(), entry.patch.is_empty()) {
            (false, true) => self.text(&entry.path)?,
            (true, false) => entry.patch.clone(),
            (true, true) => return Err(Error::wrong("must specify a json patch file path or a json patch text")),
            (false, false) => {
                return Err(Error::wrong("must specify a json patch file path or a json patch text, not both"));
            }
        };
        let Some(target) = &entry.target else {
            return Err(Error::wrong(format!("must specify a target for patch {text}")));
        };
        let Some(operations) = json_patch::read(&text) else {
            return Err(Error::wrong(format!("{}: is no list of JSON patch operations", entry.path)));
        };
        patch::json_all(resources, &operations, target, false)
    }

    /// Replacements, with those of the files that are named.
    pub fn replacements(&self, entries: &[ReplacementField]) -> Result<Vec<ReplacementField>> {
        let mut all = Vec::new();
        for entry in entries {
            if entry.path.is_empty() {
                all.push(entry.clone());
                continue;
            }
            if entry.source.is_some() || entry.targets.is_some() {
                return Err(Error::wrong("cannot specify both path and inline replacement"));
            }
            let text = self.text(&entry.path)?;
            let value =
                yaml::from_str(&text).map_err(|source| Error::Malformed { file: entry.path.clone(), source })?;
            let wrong = |message| Error::Invalid { file: entry.path.clone(), message };
            match value {
                yaml::Value::List(_) => all.extend(read_value::<Vec<ReplacementField>>(value).map_err(wrong)?),
                value => all.push(read_value::<ReplacementField>(value).map_err(wrong)?),
            }
        }
        Ok(all)
    }

    fn validate(&self, gathered: &mut Gathered, validator: &Resource) -> Result<()> {
        let before: Vec<yaml::Node> = gathered.resources.list.iter().map(|resource| resource.node.clone()).collect();
        plugin::transform(self, &mut gathered.resources, &self.schema, validator)?;
        let label = "validated-by";
        for (resource, before) in gathered.resources.list.iter_mut().zip(&before) {
            if let Some(labels) = tree::lookup_mut(&mut resource.node, &["metadata", "labels"]) {
                tree::remove(labels, label);
            }
            if resource.node != *before {
                return Err(Error::wrong(format!(
                    "validator shouldn't modify the resource map: {} was changed by {}",
                    resource.id(),
                    validator.id()
                )));
            }
        }
        Ok(())
    }
}

pub(crate) fn refused(name: &str) -> Error {
    Error::Refused(format!(
        "'{name}' is not in the files and remote resources are not allowed: allow them (`--allow-remote`), or keep a copy beside the kustomization"
    ))
}

/// The root that a kustomization in `above` names; `None` where nothing is there.
pub(crate) fn root_below(files: &dyn Files, above: &str, name: &str) -> Result<Option<String>> {
    if name.starts_with('/') {
        return Err(Error::wrong(format!("new root '{name}' cannot be absolute")));
    }
    match files.canonical(&path::join(above, name)) {
        Some(found) if !files.is_dir(&found) => {
            Err(Error::wrong(format!("must build at directory: '{found}': file is not directory")))
        }
        found => Ok(found),
    }
}

/// The way to a root: what was on the way to the one that names it, and itself. No circle, and not too deep.
pub(crate) fn visit(way: &[String], root: &str) -> Result<Vec<String>> {
    if let Some(visited) = way.iter().rev().find(|visited| path::within(visited, root)) {
        return Err(Error::Cycle { candidate: root.to_owned(), visited: visited.clone() });
    }
    if way.len() >= MAX_DEPTH {
        return Err(Error::Refused(format!("bases nested deeper than {MAX_DEPTH}: {root}")));
    }
    Ok(way.iter().cloned().chain([root.to_owned()]).collect())
}

/// The kustomization of a root: its name there, its path, and its text.
pub(crate) fn find(files: &dyn Files, root: &str) -> Result<(&'static str, String, String)> {
    let mut found = None;
    for name in NAMES {
        match files.read(&path::join(root, name)) {
            Ok(text) if found.is_none() => found = Some((name, text)),
            Ok(_) => return Err(Error::Multiple(root.to_owned())),
            Err(_) => {}
        }
    }
    let Some((name, text)) = found else { return Err(Error::Missing(root.to_owned())) };
    let file = path::join(root, name);
    let text = utf8(text, &file)?;
    Ok((name, file, text))
}

pub(crate) fn utf8(bytes: Vec<u8>, file: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::wrong(format!("{file}: the text is not UTF-8 (from byte {at})"))
    })
}
