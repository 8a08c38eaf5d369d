//! `COPY` and `ADD`: exactly the files that are meant, so that nothing else changes the address of the result.

use graph::{
    Copy as CopyOp, FileSource, Op, Origin,
    vertex::{Selected, SelectedKind},
};
use records::Digest;

use super::{
    Named,
    remote::is_remote,
    select::Choice,
    settings::{absolute, with_group},
    stage::{Lowering, State},
    stages::Reference,
};
use crate::{
    Result,
    chmod::Modes,
    context::ContextTree,
    diagnostic::Spanned,
    dockerfile::{Copy, CopySource, Flag, Heredoc, Instruction},
    glob,
    ignore::clean,
    pattern::Exclusions,
};

/// What the flags of a `COPY` or `ADD` say.
#[derive(Default)]
pub struct Given {
    /// The target, and how files come out there.
    pub operation: CopyOp,
    /// Onto nothing, and then over what is there.
    pub link: bool,
    pub checksum: Option<String>,
    pub keep_git: bool,
    pub unpack: Option<bool>,
    exclude: Exclusions,
}

impl Lowering<'_> {
    pub fn copy(&mut self, state: &mut State, instruction: &Instruction, copy: &Copy, add: bool) -> Result<()> {
        let keyword = instruction.keyword.as_str();
        let mut given = Given::default();
        for flag in &copy.flags {
            self.copy_flag(state, keyword, flag, &mut given)?;
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
        given.operation.target = target;

        let mut paths: Vec<(String, &Spanned<String>)> = Vec::new();
        let mut texts: Vec<&Heredoc> = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(path) => paths.push((self.word(state, path)?, path)),
                CopySource::Heredoc(heredoc) => texts.push(heredoc),
            }
        }
        if let Some(from) = copy.flag("from").and_then(|flag| flag.value.as_ref()) {
            if let Some(heredoc) = texts.first() {
                return Err(self.error(&heredoc.word, "--from cannot be used with a heredoc").into());
            }
            return self.copy_from(state, instruction, &given, from, &paths, is_directory, &copy.target);
        }
        let (remote, local): (Vec<_>, Vec<_>) = paths.into_iter().partition(|(path, _)| add && is_remote(path));
        if given.checksum.is_some() && (remote.len() != 1 || !local.is_empty()) {
            let reason = "--checksum is for one source that is fetched";
            return Err(self.error(&copy.target, reason).into());
        }
        if !local.is_empty() {
            if add {
                given.operation.unpack = given.unpack != Some(false);
            }
            self.copy_context(state, instruction, &given, self.context, true, &local, is_directory, &copy.target)?;
        }
        for (url, place) in &remote {
            self.add_remote(state, instruction, &given, url, place)?;
        }
        self.copy_texts(state, instruction, &given, &texts)
    }

    fn copy_flag(&mut self, state: &State, keyword: &str, flag: &Flag, given: &mut Given) -> Result<()> {
        let place = Spanned::new(String::new(), flag.span());
        let value = flag.value.as_ref().map(|value| self.word(state, value)).transpose()?;
        let switch = |lowering: &Self| match value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => {
                let reason = format!("--{} is true or false, not `{other}`", flag.name.value);
                Err(crate::Error::from(lowering.error(&place, reason)))
            }
        };
        match (flag.name.as_str(), &value) {
            ("from", Some(_)) => {}
            ("chown", Some(value)) if !value.is_empty() => given.operation.chown = Some(with_group(value)),
            ("chmod", Some(value)) => self.mode(&place, value, &mut given.operation)?,
            ("link", _) => given.link = switch(self)?,
            ("parents", _) => given.operation.parents = switch(self)?,
            ("keep-git-dir", _) => given.keep_git = switch(self)?,
            ("unpack", _) => given.unpack = Some(switch(self)?),
            ("checksum", Some(value)) => given.checksum = Some(value.clone()),
            ("exclude", Some(value)) if !value.is_empty() => {
                let pattern = given.exclude.push(value);
                pattern.map_err(|_| self.error(&place, format!("`{value}` is no pattern")))?;
                given.operation.exclude.push(value.clone());
            }
            ("from" | "chown" | "chmod" | "checksum" | "exclude", _) => {
                return Err(self.error(&place, format!("--{} needs a value", flag.name.value)).into());
            }
            (name, _) => return Err(self.error(&place, format!("{keyword} --{name} is not known here")).into()),
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // What the instruction says, each part with its place.
    fn copy_from(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        given: &Given,
        from: &Spanned<String>,
        paths: &[(String, &Spanned<String>)],
        is_directory: bool,
        target: &Spanned<String>,
    ) -> Result<()> {
        let options = self.options;
        if let Reference::Context(name) = self.reference(from)?
            && let Some(Named::Tree(tree)) = options.contexts.get(&name)
        {
            return self.copy_context(state, instruction, given, tree, false, paths, is_directory, target);
        }
        let vertex = self.from(from)?;
        let sources = paths.iter().map(|(path, _)| match path.split_once("/./").filter(|_| given.operation.parents) {
            Some((front, rest)) => format!("/{}/./{}", clean(front), clean(rest)),
            None => format!("/{}", clean(path)),
        });
        let owners = given.operation.chown.is_none();
        let operation = CopyOp { sources: sources.collect(), owners, ..given.operation.clone() };
        self.copy_layer(state, instruction, given, operation, vertex);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // What the instruction says, each part with its place.
    fn copy_context(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        given: &Given,
        tree: &ContextTree,
        main: bool,
        paths: &[(String, &Spanned<String>)],
        is_directory: bool,
        target: &Spanned<String>,
    ) -> Result<()> {
        let choice = Choice { tree, parents: given.operation.parents, exclude: &given.exclude };
        let chosen = self.choose(&choice, paths, is_directory, target)?;
        if chosen.sources.is_empty() {
            return Ok(());
        }
        let files = FileSource { origin: tree.origin().clone(), files: chosen.files };
        let vertex = match main {
            true => self.add_context(files, chosen.paths),
            false => self.add("context", Op::Files(files), Vec::new()),
        };
        // What is left out and where directories begin was decided when the files were chosen.
        let mut operation =
            CopyOp { sources: chosen.sources, parents: false, exclude: Vec::new(), ..given.operation.clone() };
        if given.operation.parents && !operation.target.ends_with('/') {
            operation.target.push('/');
        }
        self.copy_layer(state, instruction, given, operation, vertex);
        Ok(())
    }

    /// The texts of the Dockerfile itself, each a file of the name that the text has.
    fn copy_texts(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        given: &Given,
        texts: &[&Heredoc],
    ) -> Result<()> {
        if texts.is_empty() {
            return Ok(());
        }
        let mut files = FileSource { origin: Origin::Blobs, files: Vec::new() };
        let mut sources = Vec::new();
        for heredoc in texts {
            let mut content = heredoc.chomped();
            if heredoc.expand {
                content = self.resolver(state).text(&Spanned::new(content, heredoc.word.span))?;
            }
            let name = heredoc.name.replace('/', "_");
            files.files.retain(|file| file.to != name);
            files.files.extend(self.inline_file(&name, 0o644, content.into_bytes()).files);
            sources.push(format!("/{}", glob::escape(&name)));
        }
        sources.dedup();
        let vertex = self.add("heredoc", Op::Files(files), Vec::new());
        let operation =
            CopyOp { sources, parents: false, exclude: Vec::new(), unpack: false, ..given.operation.clone() };
        self.copy_layer(state, instruction, given, operation, vertex);
        Ok(())
    }

    /// Adds the layer of a copy. With `--link` it is made onto nothing, so that it stays when what is below it changes; a user by name
    /// is known only to what is below.
    pub(super) fn copy_layer(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        given: &Given,
        operation: CopyOp,
        from: usize,
    ) {
        let by_name =
            operation.chown.as_ref().is_some_and(|owner| !owner.bytes().all(|b| b.is_ascii_digit() || b == b':'));
        if given.link && !by_name {
            let copied = self.add("link", Op::Copy(operation), vec![from]);
            self.layer(state, instruction, Op::Merge, vec![copied]);
        } else {
            self.layer(state, instruction, Op::Copy(operation), vec![from]);
        }
    }

    /// `--chmod` in octal or letters.
    fn mode(&self, place: &Spanned<String>, value: &str, operation: &mut CopyOp) -> Result<()> {
        if value.bytes().all(|b| b.is_ascii_digit())
            && let Some(mode) = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777)
        {
            operation.chmod = Some(mode);
            return Ok(());
        }
        Modes::parse(value).map_err(|reason| self.error(place, reason))?;
        operation.modes = Some(value.to_owned());
        Ok(())
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
