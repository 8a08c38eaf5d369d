//! Writes a Dockerfile so that reading it again gives the same.

use std::fmt::{self, Display, Formatter};

use super::ast::{Command, Copy, CopySource, Dockerfile, Flag, Healthcheck, Heredoc, Instruction, Kind};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for directive in &self.directives {
            writeln!(f, "# {}={}", directive.name.value, directive.value.value)?;
        }
        self.instructions.iter().try_for_each(|instruction| writeln!(f, "{instruction}"))
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.print(f)?;
        bodies(f, self)
    }
}

impl Instruction {
    /// The instruction's own line, without what stands in heredocs below it.
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword.as_str())?;
        match &self.kind {
            Kind::From(from) => {
                flags(f, &from.flags, &from.image.value)?;
                write!(f, " {}", from.image.value)?;
                from.name.as_ref().map_or(Ok(()), |name| write!(f, " AS {}", name.value))
            }
            Kind::Run(run) => {
                let text = if let Command::Shell(text) = &run.command { text.value.as_str() } else { "" };
                flags(f, &run.flags, text)?;
                command(f, &run.command)
            }
            Kind::Copy(copy) | Kind::Add(copy) => print_copy(f, copy),
            Kind::Arg(args) => args.iter().try_for_each(|arg| match &arg.value {
                Some(value) => write!(f, " {}={}", arg.name.value, value.value),
                None => write!(f, " {}", arg.name.value),
            }),
            Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().try_for_each(|pair| {
                write!(f, " {}{}{}", pair.name.value, if pair.old { " " } else { "=" }, pair.value.value)
            }),
            Kind::User(text) | Kind::Workdir(text) | Kind::Stopsignal(text) | Kind::Maintainer(text) => {
                write!(f, " {}", text.value)
            }
            Kind::Expose(words) => words.iter().try_for_each(|word| write!(f, " {}", word.value)),
            Kind::Volume(words) => json(f, &words.iter().map(|word| word.value.clone()).collect::<Vec<_>>()),
            Kind::Shell(words) => json(f, words),
            Kind::Healthcheck(Healthcheck::None) => f.write_str(" NONE"),
            Kind::Healthcheck(Healthcheck::Command { flags: given, command: run }) => {
                flags(f, given, "")?;
                f.write_str(" CMD")?;
                command(f, run)
            }
            Kind::Entrypoint(run) | Kind::Cmd(run) => command(f, run),
            Kind::Onbuild(inner) => {
                f.write_str(" ")?;
                inner.print(f)
            }
        }
    }
}

fn print_copy(f: &mut Formatter<'_>, copy: &Copy) -> fmt::Result {
    let heredoc = copy.sources.iter().any(|source| matches!(source, CopySource::Heredoc(_)));
    let word = |source: &CopySource| match source {
        CopySource::Path(path) => path.value.clone(),
        CopySource::Heredoc(heredoc) => heredoc.word.value.clone(),
    };
    let mut words: Vec<String> = copy.sources.iter().map(word).collect();
    words.push(copy.target.value.clone());
    flags(f, &copy.flags, if heredoc { &words[0] } else { "" })?;
    // A text with spaces that is not quoted came from the JSON form; a heredoc can only come from the other.
    if heredoc { words.iter().try_for_each(|word| write!(f, " {word}")) } else { json(f, &words) }
}

/// `next` is what follows: where it looks like a flag, `--` says that it is none.
fn flags(f: &mut Formatter<'_>, flags: &[Flag], next: &str) -> fmt::Result {
    flags.iter().try_for_each(|flag| match &flag.value {
        Some(value) => write!(f, " --{}={}", flag.name.value, value.value),
        None => write!(f, " --{}", flag.name.value),
    })?;
    if next.starts_with("--") { f.write_str(" --") } else { Ok(()) }
}

fn command(f: &mut Formatter<'_>, command: &Command) -> fmt::Result {
    match command {
        Command::Shell(text) => write!(f, " {}", text.value),
        Command::Exec(words) => json(f, words),
    }
}

fn json(f: &mut Formatter<'_>, words: &[String]) -> fmt::Result {
    write!(f, " {}", serde_json::to_string(words).map_err(|_| fmt::Error)?)
}

fn bodies(f: &mut Formatter<'_>, instruction: &Instruction) -> fmt::Result {
    let body = |f: &mut Formatter<'_>, heredoc: &Heredoc| write!(f, "\n{}{}", heredoc.content, heredoc.name);
    match &instruction.kind {
        Kind::Run(run) => run.heredocs.iter().try_for_each(|heredoc| body(f, heredoc)),
        Kind::Copy(copy) | Kind::Add(copy) => copy.sources.iter().try_for_each(|source| match source {
            CopySource::Heredoc(heredoc) => body(f, heredoc),
            CopySource::Path(_) => Ok(()),
        }),
        Kind::Onbuild(inner) => bodies(f, inner),
        _ => Ok(()),
    }
}
