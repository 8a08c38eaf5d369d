//! `COPY` and `ADD`: exactly the files that are meant, so that nothing else changes the address of the result.

use graph::{
    Copy as CopyOp, FileSource, Op, Origin,
    vertex::{Selected, SelectedKind},
};
use records::Digest;

use super::{
    settings::absolute,
    stage::{Lowering, State},
};
use crate::{
    Result,
    context::ContextEntry,
    diagnostic::{Spanned, Warning, did_you_mean},
    dockerfile::{Copy, CopySource, Heredoc, Instruction},
    glob::{self, Glob},
    ignore::clean,
};

impl Lowering<'_> {
    pub fn copy(&mut self, state: &mut State, instruction: &Instruction, copy: &Copy, add: bool) -> Result<()> {
        let keyword = instruction.keyword.as_str();
        let mut chown = None;
        let mut chmod = None;
        for flag in &copy.flags {
            let place = Spanned::new(String::new(), flag.span());
            let value = flag.value.as_ref().map(|value| self.word(state, value)).transpose()?;
            match (flag.name.as_str(), value) {
                ("from", Some(_)) => {}
                ("chown", Some(value)) if !value.is_empty() => chown = Some(value),
                ("chmod", Some(value)) => chmod = Some(self.mode(&place, &value)?),
                ("link", None) => {
                    let reason = "--link is carried out as a plain copy: the files are the same";
                    let diagnostic = self.file.source.diagnostic(flag.span(), reason);
                    self.warnings.push(Warning::new("LinkIsPlain", diagnostic));
                }
                ("link", Some(value)) if value == "false" => {}
                ("link", Some(value)) if value == "true" => {}
                ("from" | "chown" | "chmod", _) => {
                    return Err(self.error(&place, format!("--{} needs a value", flag.name.value)).into());
                }
                (name, _) => {
                    return Err(self.error(&place, format!("{keyword} --{name} is not supported yet")).into());
                }
            }
        }
        let target = self.word(state, &copy.target)?;
        if target.is_empty() {
            return Err(self.error(&copy.target, format!("the target of {keyword} comes out empty")).into());
        }
        let is_directory = target.ends_with('/') || target == "." || target.ends_with("/.") || target == "..";
        if copy.sources.len() > 1 && !is_directory {
            let reason = format!("with more than one source the target of {keyword} must be a directory");
            return Err(self.error(&copy.target, reason).hint(format!("end it with a slash: {target}/")).into());
        }
        let mut target = absolute(&target, state.config.config.directory());
        if is_directory && !target.ends_with('/') {
            target.push('/');
        }

        let mut paths: Vec<(String, &Spanned<String>)> = Vec::new();
        let mut texts: Vec<&Heredoc> = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(path) => paths.push((self.word(state, path)?, path)),
                CopySource::Heredoc(heredoc) => texts.push(heredoc),
            }
        }
        let operation = |sources| CopyOp { sources, target: target.clone(), chown: chown.clone(), chmod };
        if let Some(from) = copy.flag("from").and_then(|flag| flag.value.as_ref()) {
            if let Some(heredoc) = texts.first() {
                return Err(self.error(&heredoc.word, "--from cannot be used with a heredoc").into());
            }
            let vertex = self.from(from)?;
            let sources = paths.iter().map(|(path, _)| format!("/{}", clean(path))).collect();
            self.layer(state, instruction, Op::Copy(operation(sources)), vec![vertex]);
            return Ok(());
        }
        if !paths.is_empty() {
            if add {
                paths.iter().try_for_each(|(path, place)| self.local_only(path, place))?;
            }
            let (sources, files) = self.choose(&paths, is_directory, &copy.target)?;
            if !sources.is_empty() {
                let origin = self.context.origin().clone();
                let vertex = self.add("context", Op::Files(FileSource { origin, files }), Vec::new());
                self.layer(state, instruction, Op::Copy(operation(sources)), vec![vertex]);
            }
        }
        for heredoc in texts {
            let mut content = heredoc.chomped();
            if heredoc.expand {
                content = self.resolver(state).text(&Spanned::new(content, heredoc.word.span))?;
            }
            let name = heredoc.name.replace('/', "_");
            let files = self.inline_file(&name, 0o644, content.into_bytes());
            let vertex = self.add("heredoc", Op::Files(files), Vec::new());
            let sources = vec![format!("/{}", glob::escape(&name))];
            self.layer(state, instruction, Op::Copy(operation(sources)), vec![vertex]);
        }
        Ok(())
    }

    /// `--chmod` in octal.
    fn mode(&self, place: &Spanned<String>, value: &str) -> Result<u32> {
        let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777 && !value.starts_with('+'));
        mode.ok_or_else(|| {
            let reason = format!("`{value}` is no mode in octal digits");
            self.error(place, reason)
                .hint("write for example --chmod=755; the letters of chmod are not supported yet")
                .into()
        })
    }

    /// `ADD` also fetches and unpacks: neither is done yet, and both are said rather than copied.
    fn local_only(&self, path: &str, place: &Spanned<String>) -> Result<()> {
        let remote =
            ["http://", "https://", "ftp://", "git://", "ssh://", "git@"].iter().any(|start| path.starts_with(start));
        if remote {
            let hint = "fetch it in a RUN, and check its digest there";
            return Err(self.error(place, "ADD from another machine is not supported yet").hint(hint).into());
        }
        let archive = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst", ".tzst"];
        let lower = path.to_ascii_lowercase();
        if archive.iter().any(|end| lower.ends_with(end)) {
            let hint = "use COPY to copy it as it is, or unpack it in a RUN";
            return Err(self
                .error(place, "ADD would unpack this archive, which is not supported yet")
                .hint(hint)
                .into());
        }
        Ok(())
    }

    /// The files that sources in the context mean, and the sources as paths of these files.
    fn choose(
        &mut self,
        paths: &[(String, &Spanned<String>)],
        to_directory: bool,
        target: &Spanned<String>,
    ) -> Result<(Vec<String>, Vec<Selected>)> {
        let mut sources = Vec::new();
        let mut files: Vec<Selected> = Vec::new();
        for (path, place) in paths {
            let cleaned = clean(path);
            let matched = if glob::has_wildcard(&cleaned) { self.matching(&cleaned, place)? } else { vec![cleaned] };
            if matched.is_empty() {
                let reason = format!("`{path}` matches no file of the build context");
                let diagnostic = self.error(place, reason);
                self.warnings.push(Warning::new("NothingMatches", diagnostic));
            }
            for path in matched {
                files.extend(self.select(&path, place)?.files);
                sources.push(format!("/{}", glob::escape(&path)));
            }
        }
        if sources.len() > 1 && !to_directory {
            let reason = format!("{} files match: the target must be a directory", sources.len());
            return Err(self.error(target, reason).hint(format!("end it with a slash: {}/", target.value)).into());
        }
        files.sort_by(|a, b| a.to.cmp(&b.to));
        files.dedup();
        Ok((sources, files))
    }

    /// The paths of the context that a pattern matches, whole paths only.
    fn matching(&self, pattern: &str, place: &Spanned<String>) -> Result<Vec<String>> {
        let glob = Glob::path(pattern).map_err(|error| self.error(place, error.to_string()))?;
        Ok(self.context.entries().filter(|entry| glob.matches(&entry.path)).map(|entry| entry.path.clone()).collect())
    }

    /// A file, or a directory with all in it, by its path in the context (empty for the root). Links on the way are followed.
    pub fn select(&self, path: &str, place: &Spanned<String>) -> Result<FileSource> {
        let resolved = match self.context.resolve(path) {
            Some(resolved) => resolved,
            None => return Err(self.not_there(path, place)),
        };
        let selected = |entry: &ContextEntry, to: String| Selected {
            from: entry.path.clone(),
            to,
            mode: entry.mode,
            content: entry.content.clone(),
            kind: entry.kind,
        };
        let mut files = Vec::new();
        match self.context.get(&resolved) {
            Some(entry) if entry.kind != SelectedKind::Directory => files.push(selected(entry, path.to_owned())),
            entry => {
                files.extend(entry.map(|entry| selected(entry, path.to_owned())));
                for below in self.context.below(&resolved) {
                    let inside = below.path[resolved.len()..].trim_start_matches('/');
                    let to = if path.is_empty() { inside.to_owned() } else { format!("{path}/{inside}") };
                    files.push(selected(below, to));
                }
            }
        }
        Ok(FileSource { origin: self.context.origin().clone(), files })
    }

    fn not_there(&self, path: &str, place: &Spanned<String>) -> crate::Error {
        if let Some(by) = self.context.ignore().decide(path) {
            let reason = format!("`{path}` is left out of the build context");
            let hint = format!("{} line {} says `{}`: take it back with `!{path}`", by.file, by.line, by.pattern);
            return self.error(place, reason).hint(hint).into();
        }
        if self.context.get(path).is_some() {
            let reason = format!("the link `{path}` leads out of the build context, or nowhere");
            return self.error(place, reason).into();
        }
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let near = self.context.below(directory).map(|entry| entry.path.as_str());
        let guess = did_you_mean(path, near.take(10_000)).map(|near| format!("did you mean `{near}`?"));
        let hint = guess.unwrap_or_else(|| "paths are relative to the root of the build context".into());
        self.error(place, format!("`{path}` is not in the build context")).hint(hint).into()
    }

    /// One file whose content comes from the Dockerfile itself.
    pub fn inline_file(&mut self, name: &str, mode: u32, content: Vec<u8>) -> FileSource {
        let digest = sha256(&content);
        if !self.inline.iter().any(|(known, _)| *known == digest) {
            self.inline.push((digest.clone(), content.into()));
        }
        let name = name.replace('/', "_");
        let file =
            Selected { from: name.clone(), to: name, mode, content: digest.to_string(), kind: SelectedKind::File };
        FileSource { origin: Origin::Blobs, files: vec![file] }
    }
}

fn sha256(content: &[u8]) -> Digest {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(sum.as_ref());
    Digest::sha256(&bytes)
}
