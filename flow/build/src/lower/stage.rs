//! One stage after the other to vertices.

use std::collections::BTreeMap;

use bytes::Bytes;
use graph::{FileSource, Op, Scope};
use records::Digest;

use super::{
    Bases, LayerVertex, Named, Options, Plan, Planned, Remote, ResolvedBase, Step,
    arguments::{Arguments, PROXIES, Resolver},
    stages::{Reference, Stage, Stages},
};
use crate::{
    Error, Result, checks,
    config::{DEFAULT_PATH, ImageConfig, Platform},
    context::ContextTree,
    diagnostic::{Diagnostic, Source, Spanned, Warning, did_you_mean},
    dockerfile::{Dockerfile, Instruction, Kind},
};

/// A stage while it is lowered, and when it is.
#[derive(Debug, Clone)]
pub struct State {
    pub vertex: usize,
    pub config: ImageConfig,
    pub base: Option<ResolvedBase>,
    pub steps: Vec<Step>,
    pub arguments: Arguments,
    /// A `CMD` of this stage is kept when its `ENTRYPOINT` changes.
    pub cmd_set: bool,
    /// What `ONBUILD` leaves to whoever builds on this.
    pub triggers: Vec<String>,
    /// The `USER` that holds, without a reason yet.
    pub user: Option<Diagnostic>,
}

/// The work of lowering.
pub struct Lowering<'a> {
    pub file: &'a Dockerfile,
    pub context: &'a ContextTree,
    pub options: &'a Options,
    pub bases: &'a dyn Bases,
    pub stages: &'a Stages<'a>,
    /// What is read at the moment: the file, or the triggers of an image.
    pub source: Source,
    pub vertices: Vec<Planned>,
    pub inline: Vec<(Digest, Bytes)>,
    pub warnings: Vec<Warning>,
    /// What `ADD` asks for and was not fetched, with its place.
    pub missing: Vec<(Remote, Diagnostic)>,
    images: BTreeMap<String, (usize, ResolvedBase)>,
    /// Platforms that commands are run for and that are not this machine's.
    pub foreign: Vec<(Platform, Diagnostic)>,
    done: BTreeMap<usize, State>,
    /// The stage at work, and the number of the vertex within it, for names.
    pub current: usize,
    pub number: usize,
}

impl<'a> Lowering<'a> {
    pub fn new(
        file: &'a Dockerfile,
        context: &'a ContextTree,
        options: &'a Options,
        bases: &'a dyn Bases,
        stages: &'a Stages<'a>,
    ) -> Self {
        let warnings = file.warnings.iter().chain(&stages.warnings).cloned().collect();
        Self {
            file,
            context,
            options,
            bases,
            stages,
            source: file.source.clone(),
            vertices: Vec::new(),
            inline: Vec::new(),
            warnings,
            missing: Vec::new(),
            images: BTreeMap::new(),
            foreign: Vec::new(),
            done: BTreeMap::new(),
            current: 0,
            number: 0,
        }
    }

    pub fn run(mut self) -> Result<(Plan, Vec<(Remote, Diagnostic)>)> {
        for index in self.stages.needed.clone() {
            let state = self.stage(index)?;
            self.done.insert(index, state);
        }
        // The target is needed by itself, so that it was lowered.
        let Some(mut state) = self.done.remove(&self.stages.target) else {
            return Err(Error::Context { path: "target".into(), reason: "nothing to build".into() });
        };
        for (name, value) in &self.options.labels {
            state.config.config.labels.insert(name.clone(), value.clone());
        }
        self.warn_unused_arguments();
        self.warnings.extend(checks::check(self.file, self.stages.all[self.stages.target].from, &state.config));
        let skipped = checks::skipped(self.file);
        self.warnings.retain(|warning| !skipped.iter().any(|s| s.eq_ignore_ascii_case(&warning.rule) || s == "all"));
        state.config.config.on_build = Some(state.triggers).filter(|triggers| !triggers.is_empty());
        let plan = Plan {
            vertices: self.vertices,
            result: state.vertex,
            scope: self.options.scope.clone(),
            steps: state.steps,
            base: state.base,
            bases: self.images.into_values().map(|(_, base)| base).collect(),
            config: state.config,
            inline: self.inline,
            warnings: self.warnings,
            warnings_fail: checks::fatal(self.file),
            foreign: self.foreign,
        };
        Ok((plan, self.missing))
    }

    fn stage(&mut self, index: usize) -> Result<State> {
        let stage = &self.stages.all[index];
        self.current = index;
        self.number = 1;
        let fresh = |vertex: usize, config: ImageConfig, base: Option<ResolvedBase>| State {
            vertex,
            config,
            base,
            steps: Vec::new(),
            arguments: Arguments::default(),
            cmd_set: false,
            triggers: Vec::new(),
            user: None,
        };
        let mut inherited = Vec::new();
        let mut state = match &stage.base {
            Reference::Scratch => {
                let vertex = self.add("FROM scratch", Op::Scratch, Vec::new());
                fresh(vertex, ImageConfig::empty(&stage.platform), None)
            }
            Reference::Stage(below) => {
                // Stages only name earlier ones, which are lowered first.
                let below = self.done.get(below).cloned();
                let missing = || Error::Context { path: "stage".into(), reason: "was not lowered".into() };
                let mut below = below.ok_or_else(missing)?;
                inherited = std::mem::take(&mut below.triggers);
                State { cmd_set: false, ..below }
            }
            Reference::Context(name) => {
                let vertex = self.whole_context(name)?;
                let mut state = fresh(vertex, ImageConfig::empty(&stage.platform), None);
                // Its files are the first layer.
                let empty = self.add("scratch", Op::Scratch, Vec::new());
                let layer = Some(LayerVertex { vertex, below: empty });
                state.steps.push(Step { created_by: format!("FROM {name}"), layer });
                state
            }
            Reference::Image(name) => {
                let (vertex, base) = self.image(name, &stage.platform, stage.image)?;
                let mut config = base.config.clone();
                self.check_base(&base, stage)?;
                if config.config.env("PATH").is_none() {
                    config.config.set_env("PATH", DEFAULT_PATH);
                }
                inherited = config.config.on_build.take().unwrap_or_default();
                fresh(vertex, config, Some(base))
            }
        };
        if !inherited.is_empty() {
            let of = format!("ONBUILD of {}", stage.image.value);
            self.triggers(&mut state, &of, &inherited, stage.from)?;
        }
        for instruction in stage.instructions {
            self.instruction(&mut state, instruction)?;
        }
        Ok(state)
    }

    /// The vertex of all files of a named context.
    pub fn whole_context(&mut self, name: &str) -> Result<usize> {
        let options = self.options;
        let Some(Named::Tree(tree)) = options.contexts.get(name) else {
            return Err(Error::Context { path: name.to_owned(), reason: "is no context of this build".into() });
        };
        let place = Spanned::new(String::new(), self.source_span());
        let files = self.select_in(tree, "", &place)?;
        Ok(self.add(&format!("context {name}"), Op::Files(files), Vec::new()))
    }

    /// The first line of what is read, for what has no place of its own.
    fn source_span(&self) -> crate::diagnostic::Span {
        self.stages.all[self.current].from.keyword.span
    }

    fn check_base(&self, base: &ResolvedBase, stage: &Stage<'_>) -> Result<()> {
        let config = &base.config;
        if config.rootfs.diff_ids.len() != base.layers.len() {
            let reason = format!(
                "the image `{}` names {} layers in its manifest and {} in its configuration",
                base.name,
                base.layers.len(),
                config.rootfs.diff_ids.len()
            );
            return Err(self.error(stage.image, reason).into());
        }
        if !config.os.is_empty()
            && (config.os != stage.platform.os || config.architecture != stage.platform.architecture)
        {
            let reason = format!(
                "the image `{}` is for {}/{}, not for {}",
                base.name, config.os, config.architecture, stage.platform
            );
            return Err(self.error(stage.image, reason).into());
        }
        Ok(())
    }

    /// The vertex of an image, made once.
    pub fn image(&mut self, name: &str, platform: &Platform, place: &Spanned<String>) -> Result<(usize, ResolvedBase)> {
        let key = super::base_key(name, platform);
        if let Some((vertex, base)) = self.images.get(&key) {
            return Ok((*vertex, base.clone()));
        }
        let base = self.bases.resolve(name, platform).map_err(|reason| {
            let known = self.bases.known();
            let guess = did_you_mean(name, known.iter().map(String::as_str).filter(|known| *known != name))
                .map(|known| format!("did you mean `{known}`?"))
                .or_else(|| self.stages.hint(name, self.current));
            self.error(place, reason).maybe_hint(guess)
        })?;
        let op = Op::Image { repository: base.repository.clone(), digest: base.digest.clone() };
        let vertex = self.add(&format!("FROM {name}"), op, Vec::new());
        self.images.insert(key, (vertex, base.clone()));
        Ok((vertex, base))
    }

    /// What a `--from` stands for.
    pub fn reference(&self, from: &Spanned<String>) -> Result<Reference> {
        Ok(self.stages.reference(&self.source, self.options, from, self.current)?)
    }

    /// The vertex that a `--from` stands for.
    pub fn from(&mut self, from: &Spanned<String>) -> Result<usize> {
        match self.reference(from)? {
            Reference::Image(name) => {
                let platform = self.options.platform.clone();
                Ok(self.image(&name, &platform, from)?.0)
            }
            Reference::Scratch => Ok(self.add("scratch", Op::Scratch, Vec::new())),
            Reference::Context(name) => self.whole_context(&name),
            Reference::Stage(index) => {
                let vertex = self.done.get(&index).map(|state| state.vertex);
                vertex.ok_or_else(|| self.error(from, "this stage was not lowered").into())
            }
        }
    }

    pub fn add(&mut self, what: &str, op: Op, inputs: Vec<usize>) -> usize {
        let name = match self.label() {
            label if label.is_empty() => what.to_owned(),
            label => format!("[{label}] {what}"),
        };
        self.vertices.push(Planned {
            name: clip(&name),
            op,
            inputs,
            place: None,
            user: None,
            scope: None,
            paths: Vec::new(),
        });
        self.vertices.len() - 1
    }

    /// What tells the stage at work from others, and its platform from others; empty when there is only one of both.
    fn label(&self) -> String {
        let stage = &self.stages.all[self.current];
        let name = (self.stages.needed.len() > 1).then(|| stage.label(self.current));
        let platform = self.options.several_platforms.then(|| stage.platform.to_string());
        platform.into_iter().chain(name).collect::<Vec<_>>().join(" ")
    }

    /// Adds files of the main context, which were chosen by these paths.
    pub fn add_context(&mut self, files: FileSource, paths: impl IntoIterator<Item = String>) -> usize {
        let vertex = self.add("context", Op::Files(files), Vec::new());
        self.vertices[vertex].paths = paths.into_iter().collect();
        vertex
    }

    /// Where a result of this vertex may be used again.
    fn scope(&self, op: &Op) -> Option<Scope> {
        let label = || self.stages.all[self.current].label(self.current);
        let number = self.current.to_string();
        if let Some(fresh) = &self.options.fresh
            && (fresh.stages.is_empty() || fresh.stages.iter().any(|stage| *stage == number || *stage == label()))
        {
            return Some(Scope::Within(format!("fresh/{}", fresh.nonce)));
        }
        match op {
            Op::Exec(exec) if !exec.secret_names().is_empty() => {
                Some(Scope::Within(format!("secret/{}", self.options.private)))
            }
            _ => None,
        }
    }

    /// Adds a vertex that makes a layer on the state.
    pub fn layer(&mut self, state: &mut State, instruction: &Instruction, op: Op, more: Vec<usize>) {
        self.number += 1;
        let total = 1 + self.stages.all[self.current].instructions.iter().filter(|i| makes_layer(&i.kind)).count();
        let count = format!("{}/{total}", self.number);
        let place = match self.label() {
            label if label.is_empty() => count,
            label => format!("{label} {count}"),
        };
        let below = state.vertex;
        let inputs = std::iter::once(below).chain(more).collect();
        let name = clip(&format!("[{place}] {}", instruction.text));
        let place = Some(self.source.diagnostic(instruction.span(), ""));
        let scope = self.scope(&op);
        let user = match &op {
            Op::Exec(_) | Op::Mkdir { .. } => state.user.clone(),
            _ => None,
        };
        self.vertices.push(Planned { name, op, inputs, place, user, scope, paths: Vec::new() });
        state.vertex = self.vertices.len() - 1;
        let layer = Some(LayerVertex { vertex: state.vertex, below });
        state.steps.push(Step { created_by: created_by(instruction), layer });
    }

    /// Notes an instruction that changed the configuration alone.
    pub fn no_layer(&self, state: &mut State, instruction: &Instruction) {
        state.steps.push(Step { created_by: created_by(instruction), layer: None });
    }

    pub fn error(&self, place: &Spanned<String>, reason: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(place.span, reason)
    }

    /// Resolves words against a state, and warns of variables that are nowhere set.
    pub fn words(&mut self, state: &State, words: &[&Spanned<String>]) -> Result<Vec<String>> {
        let resolver = Resolver::new(
            &self.source,
            self.file.escape(),
            Some(&state.config.config),
            &state.arguments,
            &self.options.build_args,
        );
        let mut values = Vec::with_capacity(words.len());
        let mut warnings = Vec::new();
        for word in words {
            values.push(resolver.word(word)?);
            for name in resolver.undefined.take() {
                let reason = format!("`${name}` is not set here: it counts as empty");
                let known: Vec<&str> = self.stages.global.set_values().map(|(name, _)| name).collect();
                let hint = if known.contains(&name.as_str()) {
                    Some(format!("declare it in this stage: ARG {name}"))
                } else {
                    let set = state.arguments.set_values().map(|(name, _)| name);
                    did_you_mean(&name, set).map(|near| format!("did you mean `${near}`?"))
                };
                warnings.push(Warning::new("UndefinedVar", self.error(word, reason).maybe_hint(hint)));
            }
        }
        self.warnings.extend(warnings);
        Ok(values)
    }

    pub fn word(&mut self, state: &State, word: &Spanned<String>) -> Result<String> {
        Ok(self.words(state, &[word])?.pop().unwrap_or_default())
    }

    fn warn_unused_arguments(&mut self) {
        let declared = |name: &str| {
            name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
                || self.file.instructions.iter().any(|instruction| match &instruction.kind {
                    Kind::Arg(args) => args.iter().any(|arg| *arg.name == name),
                    _ => false,
                })
        };
        let unused: Vec<&String> = self
            .options
            .build_args
            .keys()
            .filter(|name| !declared(name) && !PROXIES.contains(&name.as_str()))
            .collect();
        for name in unused {
            let place = self.stages.all[0].from.keyword.span;
            let reason = format!("the build argument `{name}` is given, and no ARG declares it");
            let diagnostic = self.source.diagnostic(place, reason).hint(format!("add ARG {name}, or do not pass it"));
            self.warnings.push(Warning::new("UnusedBuildArg", diagnostic));
        }
    }
}

fn makes_layer(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// Long instructions are cut in names; the whole stands in the history.
fn clip(name: &str) -> String {
    const MAX: usize = 200;
    if name.chars().count() <= MAX { name.to_owned() } else { name.chars().take(MAX - 1).chain(['…']).collect() }
}

fn created_by(instruction: &Instruction) -> String {
    const MAX: usize = 4096;
    instruction.text.chars().take(MAX).collect()
}
