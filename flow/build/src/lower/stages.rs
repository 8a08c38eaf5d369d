//! The stages of a file: what each stands on, and which the target needs.

use std::collections::BTreeSet;

use super::{
    BaseName, Named, Options,
    arguments::{Arguments, Resolver},
};
use crate::{
    Result,
    config::Platform,
    diagnostic::{Diagnostic, Source, Span, Spanned, Warning, did_you_mean},
    dockerfile::{Dockerfile, Flag, Instruction, Kind},
};

/// What a stage stands on, or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Scratch,
    Stage(usize),
    Image(String),
    /// A context that the build was given by name.
    Context(String),
}

/// One `FROM` and what follows it.
#[derive(Debug, Clone)]
pub struct Stage<'a> {
    pub from: &'a Instruction,
    pub image: &'a Spanned<String>,
    pub name: Option<String>,
    pub base: Reference,
    /// What its commands are run for: that of its base, of `FROM --platform`, or of the build.
    pub platform: Platform,
    pub instructions: &'a [Instruction],
}

impl Stage<'_> {
    pub fn label(&self, index: usize) -> String {
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
        let mut stages = Self {
            all: Vec::new(),
            target: 0,
            needed: BTreeSet::new(),
            global: Arguments::global(options),
            warnings: Vec::new(),
        };
        let starts: Vec<usize> = file
            .instructions
            .iter()
            .enumerate()
            .filter(|(_, i)| matches!(i.kind, Kind::From(_)))
            .map(|(at, _)| at)
            .collect();
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
            let mut platform = None;
            for flag in &kind.flags {
                let value = flag.value.as_ref().map(|value| resolver.word(value)).transpose()?.unwrap_or_default();
                platform = Some(platform_of(source, flag, &value)?);
            }
            let base = if let Some(named) = named(options, &image) {
                named
            } else if image == "scratch" {
                Reference::Scratch
            } else {
                stages.find(&image).map_or(Reference::Image(image), Reference::Stage)
            };
            let name = kind.name.as_ref().map(|name| name.value.clone());
            if let Some(name) = &kind.name
                && stages.find(name).is_some()
            {
                let reason = format!("the stage name `{}` stands here a second time", name.value);
                let diagnostic =
                    source.diagnostic(name.span, reason).hint("the later one hides the earlier one: rename it");
                stages.warnings.push(Warning::new("DuplicateStageName", diagnostic));
            }
            let instructions = &file.instructions[start + 1..end];
            let inherited = match &base {
                Reference::Stage(below) => stages.all.get(*below).map(|stage| stage.platform.clone()),
                _ => None,
            };
            let platform = inherited.or(platform).unwrap_or_else(|| options.platform.clone());
            stages.all.push(Stage { from, image: &kind.image, name, base, platform, instructions });
        }
        stages.target = stages.find_target(file, options)?;
        stages.need(file, options)?;
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

    fn find_target(&self, file: &Dockerfile, options: &Options) -> Result<usize> {
        let Some(target) = &options.target else { return Ok(self.all.len().saturating_sub(1)) };
        let index = target.parse::<usize>().ok().filter(|index| *index < self.all.len());
        if let Some(found) = self.find(target).or(index) {
            return Ok(found);
        }
        let names: Vec<&str> = self.all.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let guess = did_you_mean(target, names.iter().copied()).map(|name| format!("did you mean `{name}`?"));
        let list =
            if names.is_empty() { "no stage has a name".into() } else { format!("there are: {}", names.join(", ")) };
        let place = self.all.last().map(|stage| stage.from.span()).unwrap_or_default();
        let shown: String = target.chars().take(100).collect();
        let diagnostic = file.source.diagnostic(place, format!("the stage to build, `{shown}`, is not in this file"));
        Err(diagnostic.hint(guess.unwrap_or(list)).into())
    }

    /// What `--from` names, seen from a stage: a named context, an earlier stage by name or index, else an image.
    pub fn reference(
        &self,
        source: &Source,
        options: &Options,
        from: &Spanned<String>,
        current: usize,
    ) -> Result<Reference, Diagnostic> {
        if let Some(named) = named(options, &from.value) {
            return Ok(named);
        }
        let name = from.value.to_ascii_lowercase();
        if let Some(index) = self.all[..current].iter().rposition(|stage| stage.name.as_deref() == Some(name.as_str()))
        {
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
            return Err(source
                .diagnostic(from.span, reason)
                .hint("move it up: a stage can only use what stands above it"));
        }
        if from.value.is_empty() || from.value.contains('$') {
            let reason = "--from takes the name of a stage or image, without variables";
            return Err(source
                .diagnostic(from.span, reason)
                .hint("name it with FROM $image AS name, and use that name"));
        }
        if name == "scratch" {
            return Ok(Reference::Scratch);
        }
        Ok(Reference::Image(from.value.clone()))
    }

    fn need(&mut self, file: &Dockerfile, options: &Options) -> Result<()> {
        let mut todo = vec![self.target];
        while let Some(index) = todo.pop() {
            if index >= self.all.len() || !self.needed.insert(index) {
                continue;
            }
            for reference in self.references(file, options, index)? {
                if let Reference::Stage(stage) = reference {
                    todo.push(stage);
                }
            }
        }
        Ok(())
    }

    /// Everything that a stage names.
    fn references(&self, file: &Dockerfile, options: &Options, index: usize) -> Result<Vec<Reference>> {
        let stage = &self.all[index];
        let mut references = vec![stage.base.clone()];
        for instruction in stage.instructions {
            for from in froms(instruction) {
                references.push(self.reference(&file.source, options, &from, index)?);
            }
        }
        Ok(references)
    }

    /// The images that needed stages name, what they are for, and where.
    pub fn images(&self, source: &Source, options: &Options) -> Vec<BaseName> {
        let mut images: Vec<BaseName> = Vec::new();
        let mut take = |name: &str, platform: &Platform, place: Span, current: usize| {
            if name != "scratch" && !images.iter().any(|known| known.name == name && known.platform == *platform) {
                let place = source.diagnostic(place, "").maybe_hint(self.hint(name, current));
                images.push(BaseName { name: name.to_owned(), platform: platform.clone(), place });
            }
        };
        for index in &self.needed {
            let stage = &self.all[*index];
            if let Reference::Image(name) = &stage.base {
                take(name, &stage.platform, stage.image.span, *index);
            }
            for instruction in stage.instructions {
                for from in froms(instruction) {
                    // A reference that is wrong was reported when the needed stages were found.
                    if let Ok(Reference::Image(name)) = self.reference(source, options, &from, *index) {
                        take(&name, &options.platform, from.span, *index);
                    }
                }
            }
        }
        images
    }

    /// What to do about an image that is not there, when its name may have been meant for a stage.
    pub fn hint(&self, name: &str, current: usize) -> Option<String> {
        if name.contains(['/', ':', '@', '.']) {
            return None;
        }
        let above: Vec<&str> = self.all[..current].iter().filter_map(|stage| stage.name.as_deref()).collect();
        if let Some(near) = did_you_mean(&name.to_ascii_lowercase(), above.iter().copied()) {
            return Some(format!("did you mean the stage `{near}`?"));
        }
        match &above[..] {
            [] => None,
            [one] => Some(format!("no stage above it has this name: there is `{one}`")),
            all => Some(format!("no stage above it has this name: there are {}", all.join(", "))),
        }
    }
}

/// The context of that name, if the build was given one. One that stands for an image is that image.
fn named(options: &Options, name: &str) -> Option<Reference> {
    Some(match options.contexts.get(name)? {
        Named::Tree(_) => Reference::Context(name.to_owned()),
        Named::Image(image) => Reference::Image(image.clone()),
    })
}

/// What the flags of an instruction name with `from`.
pub(super) fn froms(instruction: &Instruction) -> Vec<Spanned<String>> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.flag("from").and_then(|flag| flag.value.clone()).into_iter().collect(),
        Kind::Onbuild(_) => Vec::new(),
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

fn platform_of(source: &Source, flag: &Flag, value: &str) -> Result<Platform> {
    Platform::parse(value).ok_or_else(|| {
        let reason = format!("`{value}` is no platform");
        source.diagnostic(flag.span(), reason).hint("write os/architecture, for example linux/amd64").into()
    })
}
