//! What a Dockerfile says, instruction by instruction, each with its place in the file.

use crate::diagnostic::{Source, Span, Spanned, Warning};

/// A Dockerfile that was read without an error. Equal when it says the same.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    pub source: Source,
    pub directives: Vec<Directive>,
    pub instructions: Vec<Instruction>,
    /// What is allowed and yet unwise in the syntax itself.
    pub warnings: Vec<Warning>,
}

impl PartialEq for Dockerfile {
    fn eq(&self, other: &Self) -> bool {
        self.directives == other.directives && self.instructions == other.instructions
    }
}

impl Dockerfile {
    /// The character that escapes and continues lines: `\`, or a backtick where the directive says so.
    pub fn escape(&self) -> char {
        let directive = self.directives.iter().find(|d| d.name.eq_ignore_ascii_case("escape"));
        directive.and_then(|d| d.value.chars().next()).unwrap_or('\\')
    }
}

/// A parser directive: `# escape=…`, `# syntax=…`, `# check=…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    pub name: Spanned<String>,
    pub value: Spanned<String>,
}

/// One instruction. Two are equal when they say the same, however they are written.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// From its keyword to the end of its last line, heredocs included.
    pub span: Spanned<()>,
    /// The instruction on one line as written, for people and for an image's history: `RUN npm ci`.
    pub text: String,
    pub keyword: Spanned<Keyword>,
    pub kind: Kind,
}

impl PartialEq for Instruction {
    fn eq(&self, other: &Self) -> bool {
        self.keyword == other.keyword && self.kind == other.kind
    }
}

impl Eq for Instruction {}

impl Instruction {
    pub fn span(&self) -> Span {
        self.span.span
    }
}

macro_rules! keywords {
    ($($variant:ident = $text:literal),* $(,)?) => {
        /// The instructions of the Dockerfile reference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Keyword { $($variant),* }

        impl Keyword {
            pub const ALL: &[Keyword] = &[$(Keyword::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Keyword::$variant => $text),* }
            }

            /// Reads a keyword in any case.
            pub fn find(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|keyword| keyword.as_str().eq_ignore_ascii_case(text))
            }
        }
    };
}

keywords! {
    Add = "ADD", Arg = "ARG", Cmd = "CMD", Copy = "COPY", Entrypoint = "ENTRYPOINT", Env = "ENV", Expose = "EXPOSE",
    From = "FROM", Healthcheck = "HEALTHCHECK", Label = "LABEL", Maintainer = "MAINTAINER", Onbuild = "ONBUILD",
    Run = "RUN", Shell = "SHELL", Stopsignal = "STOPSIGNAL", User = "USER", Volume = "VOLUME", Workdir = "WORKDIR",
}

/// What an instruction says. Texts are as written: variables and quotes are resolved when it is lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    From(From),
    Run(Run),
    Copy(Copy),
    Add(Copy),
    Arg(Vec<Arg>),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    User(Spanned<String>),
    Workdir(Spanned<String>),
    Expose(Vec<Spanned<String>>),
    Volume(Vec<Spanned<String>>),
    Stopsignal(Spanned<String>),
    Shell(Vec<String>),
    Healthcheck(Healthcheck),
    Entrypoint(Command),
    Cmd(Command),
    Maintainer(Spanned<String>),
    Onbuild(Box<Instruction>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    pub flags: Vec<Flag>,
    pub image: Spanned<String>,
    /// Lower-cased.
    pub name: Option<Spanned<String>>,
}

/// `--name=value`, or `--name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    pub name: Spanned<String>,
    pub value: Option<Spanned<String>>,
}

impl Flag {
    pub fn span(&self) -> Span {
        self.value.as_ref().map_or(self.name.span, |value| self.name.span.to(value.span))
    }
}

/// A command in shell form (one text for the shell) or exec form (a JSON array).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Shell(Spanned<String>),
    Exec(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub flags: Vec<Flag>,
    pub command: Command,
    pub heredocs: Vec<Heredoc>,
}

/// A text that stands below its instruction: `<<NAME … NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word as written, for example `3<<-"EOF"`.
    pub word: Spanned<String>,
    pub name: String,
    /// Whether variables in it are expanded by the builder (`COPY`, `ADD`): the name is not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of each line are dropped.
    pub chomp: bool,
    /// The lines as written, each with its line break.
    pub content: String,
}

impl Heredoc {
    /// The content with leading tabs dropped where `<<-` asks for it.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub flags: Vec<Flag>,
    pub sources: Vec<CopySource>,
    pub target: Spanned<String>,
}

impl Copy {
    pub fn flag(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().find(|flag| *flag.name == name)
    }

    /// The sources that are texts of the Dockerfile itself.
    pub fn heredocs(&self) -> Vec<&Heredoc> {
        let heredocs = self.sources.iter().filter_map(|source| match source {
            CopySource::Heredoc(heredoc) => Some(heredoc),
            CopySource::Path(_) => None,
        });
        heredocs.collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    Path(Spanned<String>),
    Heredoc(Heredoc),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub name: Spanned<String>,
    pub value: Option<Spanned<String>>,
}

/// `name=value` of `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub name: Spanned<String>,
    pub value: Spanned<String>,
    /// Written `ENV name value`, in the old way.
    pub old: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// Switches off the check of the base image.
    None,
    Command {
        flags: Vec<Flag>,
        command: Command,
    },
}
