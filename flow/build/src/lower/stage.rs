//! One stage after the other to vertices.

use std::collections::BTreeMap;

use bytes::Bytes;
use graph::Op;
use records::Digest;

use super::{
    Bases, LayerVertex, Options, Plan, Planned, ResolvedBase, Step,
    arguments::{Arguments, PROXIES, Resolver},
    stages::{Reference, Stage, Stages},
};
use crate::{
    Error, Result, checks,
    config::{DEFAULT_PATH, ImageConfig},
    context::ContextTree,
    diagnostic::{Diagnostic, Spanned, Warning, did_you_mean},
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
            return Err(Error::Context { path: "target".into(), reason: "nothing to build".into() });
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
                let missing = || Error::Context { path: "stage".into(), reason: "was not lowered".into() };
                State { cmd_set: false, ..below.ok_or_else(missing)? }
            }
            Reference::Image(name) => {
                let (vertex, base) = self.image(name, stage.image)?;
                let mut config = base.config.clone();
                self.check_base(&base, stage)?;
                if config.config.env("PATH").is_none() {
                    config.config.set_env("PATH", DEFAULT_PATH);
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
            let reason = format!(
                "the image `{}` names {} layers in its manifest and {} in its configuration",
                base.name,
                base.layers.len(),
                config.rootfs.diff_ids.len()
            );
            return Err(self.error(stage.image, reason).into());
        }
        if !config.os.is_empty()
            && (config.os != self.options.platform.os || config.architecture != self.options.platform.architecture)
        {
            let reason = format!(
                "the image `{}` is for {}/{}, not for {}",
                base.name, config.os, config.architecture, self.options.platform
            );
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
            let guess =
                did_you_mean(name, known.iter().map(String::as_str)).map(|known| format!("did you mean `{known}`?"));
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
        let name = if several {
            format!("[{}] {what}", self.stages.all[self.current].label(self.current))
        } else {
            what.to_owned()
        };
        self.vertices.push(Planned { name: clip(&name), op, inputs, place: None });
        self.vertices.len() - 1
    }

    /// Adds a vertex that makes a layer on the state.
    pub fn layer(&mut self, state: &mut State, instruction: &Instruction, op: Op, more: Vec<usize>) {
        self.number += 1;
        let total = 1 + self.stages.all[self.current].instructions.iter().filter(|i| makes_layer(&i.kind)).count();
        let label = self.stages.all[self.current].label(self.current);
        let several = self.stages.needed.len() > 1;
        let place =
            if several { format!("{label} {}/{total}", self.number) } else { format!("{}/{total}", self.number) };
        let below = state.vertex;
        let inputs = std::iter::once(below).chain(more).collect();
        let name = clip(&format!("[{place}] {}", instruction.text));
        let place = Some(self.file.source.diagnostic(instruction.span(), ""));
        self.vertices.push(Planned { name, op, inputs, place });
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
            .filter(|name| !declared(name) && !PROXIES.contains(&name.as_str()))
            .collect();
        for name in unused {
            let place = self.stages.all[0].from.keyword.span;
            let reason = format!("the build argument `{name}` is given, and no ARG declares it");
            let diagnostic =
                self.file.source.diagnostic(place, reason).hint(format!("add ARG {name}, or do not pass it"));
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
