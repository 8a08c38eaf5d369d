//! Reads Dockerfiles: the whole syntax of the reference, with the place of everything.
//!
//! [`parse`] never panics, and refuses what it does not know. What a builder does not support yet is refused later, by `lower`.

pub mod ast;
pub mod expand;
mod instruction;
mod lines;
mod print;
mod words;

pub use ast::{
    Arg, Command, Copy, CopySource, Directive, Dockerfile, Flag, From, Healthcheck, Heredoc, Instruction, Keyword,
    Kind, Pair, Run,
};

use crate::diagnostic::{Diagnostic, Source, Span};

/// Bytes that a Dockerfile may have.
pub const MAX_SIZE: usize = 1 << 20;

/// Instructions that a Dockerfile may have.
pub const MAX_INSTRUCTIONS: usize = 5_000;

/// Reads a Dockerfile; `name` is what errors call it, for example `frontend/Dockerfile`.
pub fn parse(name: &str, text: &str) -> Result<Dockerfile, Diagnostic> {
    if text.len() > MAX_SIZE {
        let source = Source::new(name, "");
        return Err(source.diagnostic(Span::default(), format!("has {} bytes, more than {MAX_SIZE}", text.len())));
    }
    let source = Source::new(name, text);
    if let Some(at) = text.find('\0') {
        let error = source.diagnostic(Span::new(at, at + 1), "a NUL byte stands here: this is no text");
        return Err(error.hint("name a Dockerfile, or save it as UTF-8"));
    }
    let split = lines::split(&source)?;
    let mut file = Dockerfile {
        source: source.clone(),
        directives: split.directives,
        instructions: Vec::new(),
        warnings: split.warnings,
    };
    let escape = file.escape();
    for line in split.lines {
        if file.instructions.len() == MAX_INSTRUCTIONS {
            return Err(source.diagnostic(line.span, format!("more than {MAX_INSTRUCTIONS} instructions")));
        }
        let instruction = instruction::Reader::new(&source, &line, escape, &mut file.warnings).instruction(0)?;
        file.instructions.push(instruction);
    }
    check_order(&file)?;
    Ok(file)
}

/// Reads the `ONBUILD` triggers of an image: instructions without a `FROM`.
pub fn parse_triggers(name: &str, text: &str) -> Result<Vec<Instruction>, Diagnostic> {
    let source = Source::new(name, text);
    if text.len() > MAX_SIZE {
        let reason = format!("has {} bytes, more than {MAX_SIZE}", text.len());
        return Err(Source::new(name, "").diagnostic(Span::default(), reason));
    }
    let mut warnings = Vec::new();
    let lines = lines::split(&source)?.lines;
    lines.iter().map(|line| instruction::Reader::new(&source, line, '\\', &mut warnings).instruction(0)).collect()
}

/// Something must be built, and only `ARG` may stand before it.
fn check_order(file: &Dockerfile) -> Result<(), Diagnostic> {
    let first = file.instructions.iter().find(|i| !matches!(i.kind, Kind::Arg(_)));
    match first {
        Some(instruction) if matches!(instruction.kind, Kind::From(_)) => Ok(()),
        Some(instruction) => {
            let keyword = instruction.keyword.as_str();
            let reason = format!("{keyword} stands before the first FROM: only ARG may");
            let hint = "start with the image to build on, for example `FROM node`";
            Err(file.source.diagnostic(instruction.keyword.span, reason).hint(hint))
        }
        None => {
            let end = file.source.text.len();
            let hint = "start with the image to build on, for example `FROM node`";
            Err(file.source.diagnostic(Span::new(end, end), "there is no FROM in it: nothing to build").hint(hint))
        }
    }
}

#[cfg(test)]
mod tests;
