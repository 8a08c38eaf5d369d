//! One logical line to one instruction.

use super::ast::{Arg, Command, Copy, CopySource, Flag, From, Healthcheck, Instruction, Keyword, Kind, Pair, Run};
use super::{
    lines::Line,
    words::{Lexer, json_array},
};
use crate::diagnostic::{Diagnostic, Source, Spanned, Warning, did_you_mean};

type Result<T> = std::result::Result<T, Diagnostic>;

/// Reads an instruction from a line.
pub struct Reader<'a> {
    source: &'a Source,
    line: &'a Line,
    escape: char,
    warnings: &'a mut Vec<Warning>,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a Source, line: &'a Line, escape: char, warnings: &'a mut Vec<Warning>) -> Self {
        Self { source, line, escape, warnings }
    }

    fn error(&self, start: usize, end: usize, reason: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(self.line.span_of(start, end), reason)
    }

    fn spanned(&self, start: usize, end: usize) -> Spanned<String> {
        Spanned::new(self.line.text[start..end].to_owned(), self.line.span_of(start, end))
    }

    /// Reads the instruction whose keyword starts at `at`.
    pub fn instruction(&mut self, at: usize) -> Result<Instruction> {
        let text = &self.line.text;
        let end = text[at..].find(char::is_whitespace).map_or(text.len(), |offset| at + offset);
        let word = &text[at..end];
        let Some(keyword) = Keyword::find(word) else {
            let shown: String = word.chars().take(40).collect();
            let hint =
                did_you_mean(word, Keyword::ALL.iter().map(|k| k.as_str())).map(|k| format!("did you mean {k}?"));
            return Err(self.error(at, end, format!("unknown instruction `{shown}`")).maybe_hint(hint));
        };
        let rest = end + (text[end..].len() - text[end..].trim_start().len());
        if text[rest..].trim().is_empty() {
            let hint = format!("for example: {}", example(keyword));
            return Err(self
                .error(at, end, format!("{keyword} needs something behind it", keyword = keyword.as_str()))
                .hint(hint));
        }
        let kind = self.kind(keyword, rest)?;
        let span = self.line.span_of(at, text.len()).to(self.line.span);
        Ok(Instruction {
            span: Spanned::new((), span),
            text: format!("{} {}", keyword.as_str(), text[rest..].trim()),
            keyword: Spanned::new(keyword, self.line.span_of(at, end)),
            kind,
        })
    }

    fn kind(&mut self, keyword: Keyword, at: usize) -> Result<Kind> {
        Ok(match keyword {
            Keyword::From => Kind::From(self.from(at)?),
            Keyword::Run => Kind::Run(self.run(at)?),
            Keyword::Copy => Kind::Copy(self.copy(keyword, at)?),
            Keyword::Add => Kind::Add(self.copy(keyword, at)?),
            Keyword::Arg => Kind::Arg(self.args(at)?),
            Keyword::Env => Kind::Env(self.pairs(keyword, at)?),
            Keyword::Label => Kind::Label(self.pairs(keyword, at)?),
            Keyword::User => Kind::User(self.whole(at)),
            Keyword::Workdir => Kind::Workdir(self.whole(at)),
            Keyword::Stopsignal => Kind::Stopsignal(self.whole(at)),
            Keyword::Maintainer => Kind::Maintainer(self.whole(at)),
            Keyword::Expose => Kind::Expose(self.words(at)),
            Keyword::Volume => Kind::Volume(self.paths(at)),
            Keyword::Shell => Kind::Shell(self.shell(at)?),
            Keyword::Healthcheck => Kind::Healthcheck(self.healthcheck(at)?),
            Keyword::Entrypoint => Kind::Entrypoint(self.command(at)),
            Keyword::Cmd => Kind::Cmd(self.command(at)),
            Keyword::Onbuild => {
                let inner = self.instruction(at)?;
                if matches!(inner.kind, Kind::Onbuild(_) | Kind::From(_) | Kind::Maintainer(_)) {
                    let reason = format!("ONBUILD cannot hold {}", inner.keyword.as_str());
                    return Err(self.source.diagnostic(inner.keyword.span, reason));
                }
                Kind::Onbuild(Box::new(inner))
            }
        })
    }

    /// The flags at `at`, and where what follows them starts.
    fn flags(&self, keyword: Keyword, mut at: usize, known: &[&str]) -> Result<(Vec<Flag>, usize)> {
        let text = &self.line.text;
        let mut flags = Vec::new();
        while text[at..].starts_with("--") {
            let Some((start, end)) = Lexer::from(text, self.escape, at).next() else { break };
            let next = end + (text[end..].len() - text[end..].trim_start().len());
            if &text[start..end] == "--" {
                at = next;
                break;
            }
            let name_end = text[start..end].find('=').map_or(end, |offset| start + offset);
            let name = self.spanned(start + 2, name_end);
            if !known.contains(&name.as_str()) {
                let reason = format!("{} knows no flag `--{}`", keyword.as_str(), name.value);
                let guess = did_you_mean(&name, known.iter().copied()).map(|k| format!("did you mean --{k}?"));
                let list = known.iter().map(|k| format!("--{k}")).collect::<Vec<_>>().join(", ");
                let all = if known.is_empty() { "it takes none".into() } else { format!("it takes {list}") };
                return Err(self.error(start, name_end, reason).hint(guess.unwrap_or(all)));
            }
            let value = (name_end < end).then(|| self.spanned(name_end + 1, end));
            flags.push(Flag { name, value });
            at = next;
        }
        Ok((flags, at))
    }

    fn from(&mut self, at: usize) -> Result<From> {
        let (flags, at) = self.flags(Keyword::From, at, &["platform"])?;
        let words = self.words(at);
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => (image, Some(name)),
            [_, second, ..] => {
                let span = second.span.to(words[words.len() - 1].span);
                let error = self.source.diagnostic(span, "FROM takes one image and, after AS, one name");
                return Err(error.hint("write `FROM <image>` or `FROM <image> AS <name>`"));
            }
            [] => {
                return Err(self
                    .error(0, self.line.text.len(), "FROM names no image")
                    .hint("for example: FROM node AS build"));
            }
        };
        let name = name.map(|name| Spanned::new(name.to_ascii_lowercase(), name.span));
        if let Some(name) = &name {
            let mut chars = name.chars();
            let valid = chars.next().is_some_and(|c| c.is_ascii_lowercase())
                && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !valid || matches!(name.as_str(), "scratch" | "context") {
                let reason = format!("`{}` cannot be the name of a stage", name.value);
                let hint =
                    "use a letter, then letters, digits and `-`, `_`, `.`; `scratch` and `context` mean something else";
                return Err(self.source.diagnostic(name.span, reason).hint(hint));
            }
        }
        Ok(From { flags, image: image.clone(), name })
    }

    fn run(&mut self, at: usize) -> Result<Run> {
        let (flags, at) = self.flags(Keyword::Run, at, &["mount", "network", "security", "device"])?;
        let command = self.command(at);
        if matches!(&command, Command::Shell(text) if text.is_empty()) {
            return Err(self.error(0, self.line.text.len(), "RUN needs a command").hint(example(Keyword::Run)));
        }
        Ok(Run { flags, command, heredocs: self.line.heredocs.clone() })
    }

    fn copy(&mut self, keyword: Keyword, at: usize) -> Result<Copy> {
        let known: &[&str] = match keyword {
            Keyword::Add => &["chown", "chmod", "link", "checksum", "keep-git-dir", "exclude", "unpack"],
            _ => &["from", "chown", "chmod", "link", "parents", "exclude"],
        };
        let (flags, at) = self.flags(keyword, at, known)?;
        let mut words = match json_array(&self.line.text[at..]) {
            Some(words) => {
                let span = self.line.span_of(at, self.line.text.len());
                words.into_iter().map(|word| Spanned::new(word, span)).collect()
            }
            None => self.words(at),
        };
        let name = keyword.as_str();
        let Some(target) = words.pop().filter(|_| !words.is_empty()) else {
            let reason = format!("{name} needs a source and a target");
            return Err(self
                .error(at, self.line.text.len(), reason)
                .hint(format!("for example: {}", example(keyword))));
        };
        if let Some(heredoc) = self.line.heredocs.iter().find(|h| h.word == target) {
            return Err(self.source.diagnostic(heredoc.word.span, format!("a heredoc cannot be the target of {name}")));
        }
        let heredocs = &self.line.heredocs;
        let sources = words.into_iter().map(|word| {
            let heredoc = heredocs.iter().find(|h| h.word.span == word.span && h.word == word);
            heredoc.map_or(CopySource::Path(word), |heredoc| CopySource::Heredoc(heredoc.clone()))
        });
        Ok(Copy { flags, sources: sources.collect(), target })
    }

    fn args(&mut self, at: usize) -> Result<Vec<Arg>> {
        let words: Vec<_> = Lexer::from(&self.line.text, self.escape, at).collect();
        let read = words.into_iter().map(|(start, end)| {
            let name_end = self.line.text[start..end].find('=').map_or(end, |offset| start + offset);
            let name = self.spanned(start, name_end);
            if !is_variable(&name) {
                let reason = format!("`{}` cannot be the name of an ARG", name.value);
                return Err(self.error(start, end, reason).hint("use letters, digits and `_`: ARG version=1.2"));
            }
            Ok(Arg { name, value: (name_end < end).then(|| self.spanned(name_end + 1, end)) })
        });
        read.collect()
    }

    fn pairs(&mut self, keyword: Keyword, at: usize) -> Result<Vec<Pair>> {
        let text = &self.line.text;
        let words: Vec<_> = Lexer::from(text, self.escape, at).collect();
        let (first_start, first_end) = words[0];
        if !text[first_start..first_end].contains('=') {
            // The old form: everything behind the name is the value.
            let value = first_end + (text[first_end..].len() - text[first_end..].trim_start().len());
            if value >= text.len() {
                let reason = format!("{} needs a value for `{}`", keyword.as_str(), &text[first_start..first_end]);
                return Err(self
                    .error(first_start, first_end, reason)
                    .hint(format!("for example: {}", example(keyword))));
            }
            let pair =
                Pair { name: self.spanned(first_start, first_end), value: self.spanned(value, text.len()), old: true };
            let hint = format!("write `{} {}=…`", keyword.as_str(), pair.name.value);
            let reason = format!("`{} name value` is the old form", keyword.as_str());
            let diagnostic = self.error(first_start, text.len(), reason).hint(hint);
            self.warnings.push(Warning::new("LegacyKeyValueFormat", diagnostic));
            return Ok(vec![pair]);
        }
        let mut pairs = Vec::with_capacity(words.len());
        for (start, end) in words {
            let Some(offset) = text[start..end].find('=') else {
                let reason = format!("`{}` has no `=`", &text[start..end]);
                let hint = "write name=value, and put a value with spaces into quotes";
                return Err(self.error(start, end, reason).hint(hint));
            };
            if offset == 0 {
                return Err(self.error(start, end, "there is no name before the `=`"));
            }
            let name = self.spanned(start, start + offset);
            pairs.push(Pair { name, value: self.spanned(start + offset + 1, end), old: false });
        }
        Ok(pairs)
    }

    fn shell(&mut self, at: usize) -> Result<Vec<String>> {
        match json_array(&self.line.text[at..]) {
            Some(words) if !words.is_empty() => Ok(words),
            _ => {
                let error = self.error(at, self.line.text.len(), "SHELL takes a JSON array of texts and nothing else");
                Err(error.hint(example(Keyword::Shell)))
            }
        }
    }

    fn healthcheck(&mut self, at: usize) -> Result<Healthcheck> {
        let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
        let (flags, at) = self.flags(Keyword::Healthcheck, at, &known)?;
        let text = &self.line.text;
        let end = text[at..].find(char::is_whitespace).map_or(text.len(), |offset| at + offset);
        let rest = end + (text[end..].len() - text[end..].trim_start().len());
        match text[at..end].to_ascii_uppercase().as_str() {
            "NONE" if rest >= text.len() && flags.is_empty() => Ok(Healthcheck::None),
            "NONE" => Err(self.error(at, text.len(), "HEALTHCHECK NONE takes nothing else")),
            "CMD" if rest < text.len() => Ok(Healthcheck::Command { flags, command: self.command(rest) }),
            "CMD" => Err(self.error(at, end, "HEALTHCHECK CMD needs a command").hint(example(Keyword::Healthcheck))),
            _ => {
                let error = self.error(at, end, "HEALTHCHECK takes CMD with a command, or NONE");
                Err(error.hint(example(Keyword::Healthcheck)))
            }
        }
    }

    fn command(&mut self, at: usize) -> Command {
        let text = &self.line.text;
        if let Some(words) = json_array(&text[at..]) {
            return Command::Exec(words);
        }
        let end = at + text[at..].trim_end().len();
        let looks_like_json = text[at..end].starts_with("[\"") || text[at..end].starts_with("['");
        if looks_like_json && text[at..end].ends_with(']') {
            let reason = "this looks like the exec form, and is no JSON: it is run by the shell";
            let hint = "use double quotes and commas: [\"program\", \"argument\"]";
            self.warnings.push(Warning::new("InvalidExecForm", self.error(at, end, reason).hint(hint)));
        }
        Command::Shell(self.spanned(at, end))
    }

    fn words(&self, at: usize) -> Vec<Spanned<String>> {
        Lexer::from(&self.line.text, self.escape, at).map(|(start, end)| self.spanned(start, end)).collect()
    }

    fn paths(&self, at: usize) -> Vec<Spanned<String>> {
        match json_array(&self.line.text[at..]) {
            Some(words) => {
                let span = self.line.span_of(at, self.line.text.len());
                words.into_iter().map(|word| Spanned::new(word, span)).collect()
            }
            None => self.words(at),
        }
    }

    fn whole(&self, at: usize) -> Spanned<String> {
        let end = at + self.line.text[at..].trim_end().len();
        self.spanned(at, end)
    }
}

fn is_variable(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// An instruction as it should look, for hints.
pub fn example(keyword: Keyword) -> &'static str {
    match keyword {
        Keyword::Add => "ADD app.conf /etc/app/",
        Keyword::Arg => "ARG version=1.2",
        Keyword::Cmd => "CMD [\"serve\"]",
        Keyword::Copy => "COPY src/ /app/src/",
        Keyword::Entrypoint => "ENTRYPOINT [\"/usr/bin/node\", \"server.js\"]",
        Keyword::Env => "ENV PORT=8080",
        Keyword::Expose => "EXPOSE 8080",
        Keyword::From => "FROM node AS build",
        Keyword::Healthcheck => "HEALTHCHECK --interval=10s CMD [\"/app/healthy\"]",
        Keyword::Label => "LABEL org.opencontainers.image.title=\"my app\"",
        Keyword::Maintainer => "LABEL org.opencontainers.image.authors=\"me@example.org\"",
        Keyword::Onbuild => "ONBUILD COPY . /app",
        Keyword::Run => "RUN npm ci",
        Keyword::Shell => "SHELL [\"/bin/bash\", \"-c\"]",
        Keyword::Stopsignal => "STOPSIGNAL SIGTERM",
        Keyword::User => "USER nonroot",
        Keyword::Volume => "VOLUME /data",
        Keyword::Workdir => "WORKDIR /app",
    }
}
