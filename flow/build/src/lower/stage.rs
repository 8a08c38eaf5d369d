//! Stages: which the target needs, and one after the other to vertices.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use graph::Op;
use records::Digest;

use super::{
    Bases, LayerVertex, Options, Plan, Planned, ResolvedBase, Step,
    arguments::{Arguments, Resolver},
};
use crate::{
    Result, checks,
    config::{ImageConfig, Platform},
    context::ContextTree,
    diagnostic::{Diagnostic, Source, Spanned, Warning, did_you_mean},
    dockerfile::{Dockerfile, Instruction, Kind},
};

/// What a stage stands on, or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Scratch,
    Stage(usize),
    Image(String),
}

/// One `FROM` and what follows it.
#[derive(Debug, Clone)]
pub struct Stage<'a> {
    pub from: &'a Instruction,
    pub image: &'a Spanned<String>,
    pub name: Option<String>,
    pub base: Reference,
    pub instructions: &'a [Instruction],
}

impl Stage<'_> {
    fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{index}"))
    }
}

/// All stages, the target, and those that it needs.
pub struct Stages<'a> {
    pub all: Vec<Stage<'a>>,
    pub target: usize,
    pub needed: BTreeSet<usize>,
    pub global: Arguments,
    pub warnings: Vec<Warning>,
}

impl<'a> Stages<'a> {
    pub fn read(file: &'a Dockerfile, options: &Options) -> Result<Self> {
        let source = &file.source;
        let mut stages =
            Self { all: Vec::new(), target: 0, needed: BTreeSet::new(), global: Arguments::global(options), warnings: Vec::new() };
        let starts: Vec<usize> =
            file.instructions.iter().enumerate().filter(|(_, i)| matches!(i.kind, Kind::From(_))).map(|(at, _)| at).collect();
        let first = starts.first().copied().unwrap_or(file.instructions.len());
        for instruction in &file.instructions[..first] {
            stages.declare_global(file, options, instruction)?;
        }
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(file.instructions.len());
            let from = &file.instructions[*start];
            let Kind::From(kind) = &from.kind else { continue };
            let resolver = Resolver::new(source, file.escape(), None, &stages.global, &options.build_args);
            let image = resolver.word(&kind.image)?;
            if image.is_empty() {
                let unset = resolver.undefined.borrow().first().cloned();
                let hint = match unset {
                    Some(name) => format!("declare it before the first FROM, with a default: ARG {name}=…"),
                    None => "give the argument a value".to_owned(),
                };
                let reason = format!("`{}` comes out empty: FROM needs the name of an image", kind.image.value);
                return Err(source.diagnostic(kind.image.span, reason).hint(hint).into());
            }
            for flag in &kind.flags {
                let value = flag.value.as_ref().map(|value| resolver.word(value)).transpose()?.unwrap_or_default();
                check_platform(source, options, flag, &value)?;
            }
            let base = if image == "scratch" {
                Reference::Scratch
            } else {
                stages.find(&image).map_or(Reference::Image(image), Reference::Stage)
            };
            let name = kind.name.as_ref().map(|name| name.value.clone());
            if let Some(name) = &kind.name
                && stages.find(name).is_some()
            {
                let reason = format!("the stage name `{}` stands here a second time", name.value);
                let diagnostic = source.diagnostic(name.span, reason).hint("the later one hides the earlier one: rename it");
                stages.warnings.push(Warning::new("DuplicateStageName", diagnostic));
            }
            let instructions = &file.instructions[start + 1..end];
            stages.all.push(Stage { from, image: &kind.image, name, base, instructions });
        }
        stages.target = stages.find_target(options)?;
        stages.need(file)?;
        Ok(stages)
    }

    fn declare_global(&mut self, file: &Dockerfile, options: &Options, instruction: &Instruction) -> Result<()> {
        let Kind::Arg(args) = &instruction.kind else { return Ok(()) };
        let before = self.global.clone();
        let resolver = Resolver::new(&file.source, file.escape(), None, &before, &options.build_args);
        for arg in args {
            let default = arg.value.as_ref().map(|value| resolver.word(value)).transpose()?;
            self.global.set(&arg.name, Arguments::value_of(arg, default, options, Some(&before)));
        }
        Ok(())
    }

    /// The latest stage of that name so far.
    fn find(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        self.all.iter().rposition(|stage| stage.name.as_deref() == Some(name.as_str()))
    }

    fn find_target(&self, options: &Options) -> Result<usize> {
        let Some(target) = &options.target else { return Ok(self.all.len().saturating_sub(1)) };
        let index = target.parse::<usize>().ok().filter(|index| *index < self.all.len());
        self.find(target).or(index).ok_or_else(|| {
            let names: Vec<&str> = self.all.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let guess = did_you_mean(target, names.iter().copied()).map(|name| format!(": did you mean `{name}`?"));
            let list = if names.is_empty() { ": no stage has a name".into() } else { format!("; there are: {}", names.join(", ")) };
            let path = self.all.first().map_or_else(String::new, |stage| stage.image.value.clone());
            let _ = path;
            crate::Error::Context {
                path: "target".into(),
                reason: format!("there is no stage `{target}`{}", guess.unwrap_or(list)),
            }
        })
    }

    /// What `--from` names, seen from a stage: an earlier stage by name or index, else an image.
    pub fn reference(&self, source: &Source, from: &Spanned<String>, current: usize) -> Result<Reference, Diagnostic> {
        let name = from.value.to_ascii_lowercase();
        if let Some(index) = self.all[..current].iter().rposition(|stage| stage.name.as_deref() == Some(name.as_str())) {
            return Ok(Reference::Stage(index));
        }
        if let Ok(index) = from.value.parse::<usize>() {
            if index < current {
                return Ok(Reference::Stage(index));
            }
            let reason = format!("there is no stage {index} before this one: they count from 0");
            return Err(source.diagnostic(from.span, reason));
        }
        if self.all[current..].iter().any(|stage| stage.name.as_deref() == Some(name.as_str())) {
            let reason = format!("the stage `{}` stands at or below this one", from.value);
            return Err(source.diagnostic(from.span, reason).hint("move it up: a stage can only use what stands above it"));
        }
        if from.value.is_empty() || from.value.contains('$') {
            let reason = "--from takes the name of a stage or image, without variables";
            return Err(source.diagnostic(from.span, reason).hint("name it with FROM $image AS name, and use that name"));
        }
        Ok(Reference::Image(from.value.clone()))
    }

    fn need(&mut self, file: &Dockerfile) -> Result<()> {
        let mut todo = vec![self.target];
        while let Some(index) = todo.pop() {
            if index >= self.all.len() || !self.needed.insert(index) {
                continue;
            }
            for reference in self.references(file, index)? {
                if let Reference::Stage(stage) = reference {
                    todo.push(stage);
                }
            }
        }
        Ok(())
    }

    /// Everything that a stage names.
    fn references(&self, file: &Dockerfile, index: usize) -> Result<Vec<Reference>> {
        let stage = &self.all[index];
        let mut references = vec![stage.base.clone()];
        for instruction in stage.instructions {
            for from in froms(instruction) {
                references.push(self.reference(&file.source, &from, index)?);
            }
        }
        Ok(references)
    }

    /// The images that needed stages name.
    pub fn images(&self) -> Vec<String> {
        let mut images = Vec::new();
        for index in &self.needed {
            let stage = &self.all[*index];
            if let Reference::Image(name) = &stage.base {
                images.push(name.clone());
            }
            for instruction in stage.instructions {
                for from in froms(instruction) {
                    // A reference that is wrong was reported when the needed stages were found.
                    if let Ok(Reference::Image(name)) = self.reference(&Source::new("", ""), &from, *index) {
                        images.push(name);
                    }
                }
            }
        }
        images
    }
}

/// What the flags of an instruction name with `from`.
fn froms(instruction: &Instruction) -> Vec<Spanned<String>> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.flag("from").and_then(|flag| flag.value.clone()).into_iter().collect(),
        Kind::Run(run) => {
            let mounts = run.flags.iter().filter(|flag| *flag.name == "mount").filter_map(|flag| flag.value.as_ref());
            let from = |value: &Spanned<String>| {
                let from = value.split(',').find_map(|part| part.trim().strip_prefix("from=").map(str::to_owned));
                from.map(|from| Spanned::new(from, value.span))
            };
            mounts.filter_map(from).collect()
        }
        _ => Vec::new(),
    }
}

fn check_platform(source: &Source, options: &Options, flag: &crate::dockerfile::Flag, value: &str) -> Result<()> {
    let Some(platform) = Platform::parse(value) else {
        let reason = format!("`{value}` is no platform");
        return Err(source.diagnostic(flag.span(), reason).hint("write os/architecture, for example linux/amd64").into());
    };
    if platform != options.platform {
        let reason = format!("this machine builds for {} only, not for {platform}", options.platform);
        return Err(source.diagnostic(flag.span(), reason).hint("leave --platform out, or use $TARGETPLATFORM").into());
    }
    Ok(())
}

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
}

/// The work of lowering.
pub struct Lowering<'a> {
    pub file: &'a Dockerfile,
    pub context: &'a ContextTree,
    pub options: &'a Options,
    pub bases: &'a dyn Bases,
    pub stages: &'a Stages<'a>,
    pub vertices: Vec<Planned>,
    pub inline: Vec<(Digest, Bytes)>,
    pub warnings: Vec<Warning>,
    images: BTreeMap<String, (usize, ResolvedBase)>,
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
            vertices: Vec::new(),
            inline: Vec::new(),
            warnings,
            images: BTreeMap::new(),
            done: BTreeMap::new(),
            current: 0,
            number: 0,
        }
    }

    pub fn run(mut self) -> Result<Plan> {
        for index in self.stages.needed.clone() {
            let state = self.stage(index)?;
            self.done.insert(index, state);
        }
        // The target is needed by itself, so that it was lowered.
        let Some(mut state) = self.done.remove(&self.stages.target) else {
            return Err(crate::Error::Context { path: "target".into(), reason: "nothing to build".into() });
        };
        for (name, value) in &self.options.labels {
            state.config.config.labels.insert(name.clone(), value.clone());
        }
        self.warn_unused_arguments();
        self.warnings.extend(checks::check(self.file, self.stages.all[self.stages.target].from, &state.config));
        let skipped = checks::skipped(self.file);
        self.warnings.retain(|warning| !skipped.iter().any(|s| s.eq_ignore_ascii_case(&warning.rule) || s == "all"));
        Ok(Plan {
            vertices: self.vertices,
            result: state.vertex,
            scope: self.options.scope.clone(),
            steps: state.steps,
            base: state.base,
            bases: self.images.into_values().map(|(_, base)| base).collect(),
            config: state.config,
            inline: self.inline,
            warnings: self.warnings,
        })
    }

    fn stage(&mut self, index: usize) -> Result<State> {
        let stage = &self.stages.all[index];
        self.current = index;
        self.number = 1;
        let mut state = match &stage.base {
            Reference::Scratch => {
                let vertex = self.add("FROM scratch", Op::Scratch, Vec::new());
                let config = ImageConfig::empty(&self.options.platform);
                State { vertex, config, base: None, steps: Vec::new(), arguments: Arguments::default(), cmd_set: false }
            }
            Reference::Stage(below) => {
                // Stages only name earlier ones, which are lowered first.
                let below = self.done.get(below).cloned();
                let missing = || crate::Error::Context { path: "stage".into(), reason: "was not lowered".into() };
                State { cmd_set: false, ..below.ok_or_else(missing)? }
            }
            Reference::Image(name) => {
                let (vertex, base) = self.image(name, stage.image)?;
                let mut config = base.config.clone();
                self.check_base(&base, stage)?;
                if config.config.env("PATH").is_none() {
                    config.config.set_env("PATH", crate::config::DEFAULT_PATH);
                }
                let arguments = Arguments::default();
                State { vertex, config, base: Some(base), steps: Vec::new(), arguments, cmd_set: false }
            }
        };
        for instruction in stage.instructions {
            self.instruction(&mut state, instruction)?;
        }
        Ok(state)
    }

    fn check_base(&self, base: &ResolvedBase, stage: &Stage<'_>) -> Result<()> {
        let config = &base.config;
        if config.rootfs.diff_ids.len() != base.layers.len() {
            let reason = format!("the image `{}` names {} layers in its manifest and {} in its configuration",
                base.name, base.layers.len(), config.rootfs.diff_ids.len());
            return Err(self.error(stage.image, reason).into());
        }
        if !config.os.is_empty() && (config.os != self.options.platform.os || config.architecture != self.options.platform.architecture) {
            let reason = format!("the image `{}` is for {}/{}, not for {}",
                base.name, config.os, config.architecture, self.options.platform);
            return Err(self.error(stage.image, reason).into());
        }
        if config.config.on_build.as_ref().is_some_and(|triggers| !triggers.is_empty()) {
            let reason = format!("the image `{}` has ONBUILD triggers, which are not supported yet", base.name);
            return Err(self.error(stage.image, reason).into());
        }
        Ok(())
    }

    /// The vertex of an image, made once.
    pub fn image(&mut self, name: &str, place: &Spanned<String>) -> Result<(usize, ResolvedBase)> {
        if let Some((vertex, base)) = self.images.get(name) {
            return Ok((*vertex, base.clone()));
        }
        let base = self.bases.resolve(name).map_err(|reason| {
            let known = self.bases.known();
            let guess = did_you_mean(name, known.iter().map(String::as_str)).map(|known| format!("did you mean `{known}`?"));
            self.error(place, reason).maybe_hint(guess)
        })?;
        let op = Op::Image { repository: base.repository.clone(), digest: base.digest.clone() };
        let vertex = self.add(&format!("FROM {name}"), op, Vec::new());
        self.images.insert(name.to_owned(), (vertex, base.clone()));
        Ok((vertex, base))
    }

    /// The vertex that a `--from` stands for.
    pub fn from(&mut self, from: &Spanned<String>) -> Result<usize> {
        match self.stages.reference(&self.file.source, from, self.current)? {
            Reference::Image(name) => Ok(self.image(&name, from)?.0),
            Reference::Scratch => Ok(self.add("scratch", Op::Scratch, Vec::new())),
            Reference::Stage(index) => {
                let vertex = self.done.get(&index).map(|state| state.vertex);
                vertex.ok_or_else(|| self.error(from, "this stage was not lowered").into())
            }
        }
    }

    pub fn add(&mut self, what: &str, op: Op, inputs: Vec<usize>) -> usize {
        let several = self.stages.needed.len() > 1;
        let name = if several { format!("[{}] {what}", self.stages.all[self.current].label(self.current)) } else { what.to_owned() };
        self.vertices.push(Planned { name: clip(&name), op, inputs });
        self.vertices.len() - 1
    }

    /// Adds a vertex that makes a layer on the state.
    pub fn layer(&mut self, state: &mut State, instruction: &Instruction, op: Op, more: Vec<usize>) {
        self.number += 1;
        let total = 1 + self.stages.all[self.current].instructions.iter().filter(|i| makes_layer(&i.kind)).count();
        let label = self.stages.all[self.current].label(self.current);
        let several = self.stages.needed.len() > 1;
        let place = if several { format!("{label} {}/{total}", self.number) } else { format!("{}/{total}", self.number) };
        let below = state.vertex;
        let inputs = std::iter::once(below).chain(more).collect();
        self.vertices.push(Planned { name: clip(&format!("[{place}] {}", instruction.text)), op, inputs });
        state.vertex = self.vertices.len() - 1;
        let layer = Some(LayerVertex { vertex: state.vertex, below });
        state.steps.push(Step { created_by: created_by(instruction), layer });
    }

    /// Notes an instruction that changed the configuration alone.
    pub fn no_layer(&self, state: &mut State, instruction: &Instruction) {
        state.steps.push(Step { created_by: created_by(instruction), layer: None });
    }

    pub fn error(&self, place: &Spanned<String>, reason: impl Into<String>) -> Diagnostic {
        self.file.source.diagnostic(place.span, reason)
    }

    /// Resolves words against a state, and warns of variables that are nowhere set.
    pub fn words(&mut self, state: &State, words: &[&Spanned<String>]) -> Result<Vec<String>> {
        let resolver = Resolver::new(
            &self.file.source,
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
            self.file.instructions.iter().any(|instruction| match &instruction.kind {
                Kind::Arg(args) => args.iter().any(|arg| *arg.name == name),
                _ => false,
            })
        };
        let unused: Vec<&String> = self
            .options
            .build_args
            .keys()
            .filter(|name| !declared(name) && !super::arguments::PROXIES.contains(&name.as_str()))
            .collect();
        for name in unused {
            let place = self.stages.all[0].from.keyword.span;
            let reason = format!("the build argument `{name}` is given, and no ARG declares it");
            let diagnostic = self.file.source.diagnostic(place, reason).hint(format!("add ARG {name}, or do not pass it"));
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
