//! The launcher of images that buildpacks made: sets up the environment that their layers ask for, and becomes the process.
//!
//! One file and nothing but the standard library: it is compiled by a build script, statically, and must run on any run image. It reads
//! `<layers>/config/metadata.toml`, so it and the lifecycle's own launcher can stand for each other.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsString},
    fs,
    io::Read,
    os::{fd::{AsRawFd, FromRawFd}, unix::{ffi::OsStrExt, process::CommandExt}},
    path::{Path, PathBuf},
    process::Command,
};

mod toml {
    //! The part of TOML that is needed: tables, arrays of tables, and values that are texts, booleans, numbers and arrays.
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    pub enum Value {
        Text(String),
        Bool(bool),
        Other,
        List(Vec<Value>),
        Table(Table),
    }

    pub type Table = BTreeMap<String, Value>;

    impl Value {
        pub fn text(&self) -> Option<&str> {
            match self {
                Self::Text(text) => Some(text),
                _ => None,
            }
        }

        pub fn texts(&self) -> Vec<String> {
            match self {
                Self::List(all) => all.iter().filter_map(|one| one.text().map(str::to_owned)).collect(),
                Self::Text(one) => vec![one.clone()],
                _ => Vec::new(),
            }
        }
    }

    struct Reader<'a> {
        text: &'a [u8],
        at: usize,
        depth: usize,
    }

    pub fn parse(text: &str) -> Result<Table, String> {
        let mut reader = Reader { text: text.as_bytes(), at: 0, depth: 0 };
        let mut root = Table::new();
        let mut path: Vec<String> = Vec::new();
        loop {
            reader.blank(true)?;
            let Some(c) = reader.peek() else { return Ok(root) };
            if c == b'[' {
                reader.at += 1;
                let list = reader.peek() == Some(b'[');
                reader.at += usize::from(list);
                path = reader.keys()?;
                reader.expect(b']')?;
                if list {
                    reader.expect(b']')?;
                }
                reader.end_of_line()?;
                let (last, parents) = path.split_last().ok_or("an empty name of a table")?;
                let table = enter(&mut root, parents)?;
                if list {
                    match table.entry(last.clone()).or_insert_with(|| Value::List(Vec::new())) {
                        Value::List(all) => all.push(Value::Table(Table::new())),
                        _ => return Err(format!("`{last}` is no array of tables")),
                    }
                } else {
                    enter(&mut root, &path)?;
                }
                continue;
            }
            let keys = reader.keys()?;
            reader.expect(b'=')?;
            let value = reader.value()?;
            reader.end_of_line()?;
            let (last, parents) = keys.split_last().ok_or("an empty key")?;
            let all: Vec<String> = path.iter().chain(parents).cloned().collect();
            enter(&mut root, &all)?.insert(last.clone(), value);
        }
    }

    /// The table at a path; of an array of tables, its last one.
    fn enter<'a>(root: &'a mut Table, path: &[String]) -> Result<&'a mut Table, String> {
        let mut at = root;
        for part in path {
            let value = at.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            at = match value {
                Value::Table(table) => table,
                Value::List(all) => match all.last_mut() {
                    Some(Value::Table(table)) => table,
                    _ => return Err(format!("`{part}` is no table")),
                },
                _ => return Err(format!("`{part}` is no table")),
            };
        }
        Ok(at)
    }

    impl Reader<'_> {
        fn peek(&self) -> Option<u8> {
            self.text.get(self.at).copied()
        }

        fn wrong<T>(&self, what: &str) -> Result<T, String> {
            let line = self.text[..self.at.min(self.text.len())].iter().filter(|c| **c == b'\n').count() + 1;
            Err(format!("line {line}: {what}"))
        }

        fn blank(&mut self, lines: bool) -> Result<(), String> {
            while let Some(c) = self.peek() {
                match c {
                    b' ' | b'\t' => self.at += 1,
                    b'\r' | b'\n' if lines => self.at += 1,
                    b'#' => while self.peek().is_some_and(|c| c != b'\n') {
                        self.at += 1;
                    },
                    _ => break,
                }
            }
            Ok(())
        }

        fn end_of_line(&mut self) -> Result<(), String> {
            self.blank(false)?;
            match self.peek() {
                None | Some(b'\n' | b'\r') => Ok(()),
                Some(_) => self.wrong("there is something behind the value"),
            }
        }

        fn expect(&mut self, c: u8) -> Result<(), String> {
            self.blank(false)?;
            if self.peek() != Some(c) {
                return self.wrong(&format!("a `{}` is missing", c as char));
            }
            self.at += 1;
            Ok(())
        }

        fn keys(&mut self) -> Result<Vec<String>, String> {
            let mut keys = Vec::new();
            loop {
                self.blank(false)?;
                match self.peek() {
                    Some(b'"' | b'\'') => keys.push(self.string()?),
                    _ => {
                        let from = self.at;
                        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-') {
                            self.at += 1;
                        }
                        if from == self.at {
                            return self.wrong("a key is missing");
                        }
                        keys.push(String::from_utf8_lossy(&self.text[from..self.at]).into_owned());
                    }
                }
                self.blank(false)?;
                if self.peek() != Some(b'.') {
                    return Ok(keys);
                }
                self.at += 1;
            }
        }

        fn value(&mut self) -> Result<Value, String> {
            self.blank(false)?;
            self.depth += 1;
            if self.depth > 64 {
                return self.wrong("it is nested too deep");
            }
            let value = match self.peek() {
                Some(b'"' | b'\'') => Value::Text(self.string()?),
                Some(b'[') => {
                    self.at += 1;
                    let mut all = Vec::new();
                    loop {
                        self.blank(true)?;
                        if self.peek() == Some(b']') {
                            self.at += 1;
                            break;
                        }
                        all.push(self.value()?);
                        self.blank(true)?;
                        match self.peek() {
                            Some(b',') => self.at += 1,
                            Some(b']') => {}
                            _ => return self.wrong("a `,` or `]` is missing"),
                        }
                    }
                    Value::List(all)
                }
                Some(b'{') => {
                    self.at += 1;
                    let mut table = Table::new();
                    loop {
                        self.blank(true)?;
                        match self.peek() {
                            Some(b'}') => {
                                self.at += 1;
                                break;
                            }
                            Some(b',') => self.at += 1,
                            _ => {
                                let keys = self.keys()?;
                                self.expect(b'=')?;
                                let value = self.value()?;
                                let (last, parents) = keys.split_last().ok_or("an empty key")?;
                                enter(&mut table, parents)?.insert(last.clone(), value);
                            }
                        }
                    }
                    Value::Table(table)
                }
                _ => {
                    let from = self.at;
                    while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || b"+-_.:".contains(&c)) {
                        self.at += 1;
                    }
                    match &self.text[from..self.at] {
                        b"true" => Value::Bool(true),
                        b"false" => Value::Bool(false),
                        b"" => return self.wrong("a value is missing"),
                        _ => Value::Other,
                    }
                }
            };
            self.depth -= 1;
            Ok(value)
        }

        fn string(&mut self) -> Result<String, String> {
            let quote = self.text[self.at];
            let long = self.text[self.at..].starts_with(&[quote; 3]);
            self.at += if long { 3 } else { 1 };
            if long && self.peek() == Some(b'\r') {
                self.at += 1;
            }
            if long && self.peek() == Some(b'\n') {
                self.at += 1;
            }
            let mut out: Vec<u8> = Vec::new();
            loop {
                let Some(c) = self.peek() else { return self.wrong("a text does not end") };
                self.at += 1;
                match c {
                    c if c == quote && !long => break,
                    c if c == quote && self.text[self.at..].starts_with(&[quote; 2]) => {
                        self.at += 2;
                        // Up to two more of them belong to the text.
                        for _ in 0..2 {
                            if self.peek() == Some(quote) {
                                out.push(quote);
                                self.at += 1;
                            }
                        }
                        break;
                    }
                    b'\n' if !long => {
                        self.at -= 1;
                        return self.wrong("a text does not end");
                    }
                    b'\\' if quote == b'"' => {
                        let Some(c) = self.peek() else { return self.wrong("a text does not end") };
                        self.at += 1;
                        match c {
                            b'b' => out.push(8),
                            b't' => out.push(b'\t'),
                            b'n' => out.push(b'\n'),
                            b'f' => out.push(12),
                            b'r' => out.push(b'\r'),
                            b'e' => out.push(27),
                            b'"' | b'\\' => out.push(c),
                            b'x' | b'u' | b'U' => {
                                let digits = match c { b'x' => 2, b'u' => 4, _ => 8 };
                                let hex = self.text.get(self.at..self.at + digits).unwrap_or_default();
                                let code = std::str::from_utf8(hex).ok().and_then(|hex| u32::from_str_radix(hex, 16).ok());
                                let Some(c) = code.and_then(char::from_u32) else { return self.wrong("a `\\u` names no character") };
                                out.extend(c.to_string().as_bytes());
                                self.at += digits;
                            }
                            b' ' | b'\t' | b'\r' | b'\n' if long => {
                                while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
                                    self.at += 1;
                                }
                            }
                            _ => return self.wrong("`\\` stands before something that it cannot"),
                        }
                    }
                    c => out.push(c),
                }
            }
            String::from_utf8(out).map_err(|_| "a text is not UTF-8".to_owned())
        }
    }
}

use toml::{Table, Value};

type Result<T, E = String> = std::result::Result<T, E>;

/// The exit code of an error before the process is there.
const LAUNCH_FAILED: i32 = 82;

struct Process {
    kind: String,
    command: Vec<String>,
    args: Vec<OsString>,
    direct: bool,
    buildpack: String,
    directory: PathBuf,
}

struct Buildpack {
    id: String,
    old_args: bool,
}

/// The environment of the process. Values are what the system has them as.
type Vars = BTreeMap<OsString, OsString>;

fn main() {
    if let Err(why) = launch() {
        eprintln!("ERROR: failed to launch: {why}");
        std::process::exit(LAUNCH_FAILED);
    }
}

fn directory_of(name: &str, default: &str) -> PathBuf {
    env::var_os(name).filter(|value| !value.is_empty()).map_or_else(|| default.into(), PathBuf::from)
}

fn launch() -> Result<()> {
    let layers = directory_of("CNB_LAYERS_DIR", "/layers");
    let app = directory_of("CNB_APP_DIR", "/workspace");
    let exec_env = env::var("CNB_EXEC_ENV").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "production".into());
    let file = layers.join("config/metadata.toml");
    let text = fs::read_to_string(&file).map_err(|e| format!("read metadata: {}: {e}", file.display()))?;
    let metadata = toml::parse(&text).map_err(|e| format!("read metadata: {}: {e}", file.display()))?;
    let buildpacks: Vec<Buildpack> = tables(&metadata, "buildpacks")
        .map(|one| Buildpack { id: string(one, "id"), old_args: is_old(&string(one, "api")) })
        .collect();
    let mut arguments = env::args_os();
    let own = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let process = choose(&metadata, &buildpacks, &own, arguments, &app, &exec_env)?;

    env::set_current_dir(&app).map_err(|e| format!("change to app directory {}: {e}", app.display()))?;
    let mut vars: Vars = env::vars_os().filter(|(name, _)| !HIDDEN.iter().any(|hidden| name == hidden)).collect();
    if let Some(path) = vars.get_mut(&OsString::from("PATH")) {
        let own = [Path::new("/cnb/process"), Path::new("/cnb/lifecycle")];
        let kept: Vec<PathBuf> = env::split_paths(path).filter(|part| !own.contains(&part.as_path())).collect();
        *path = env::join_paths(kept).map_err(|e| e.to_string())?;
    }
    let all: Vec<PathBuf> = buildpacks.iter().map(|one| layers.join(one.id.replace('/', "_"))).collect();
    for buildpack in &all {
        let its = entries(buildpack, true)?;
        for layer in &its {
            for (directory, name) in [("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")] {
                let path = layer.join(directory);
                if path.exists() {
                    before(&mut vars, name.as_ref(), path.as_os_str().to_owned(), b":");
                }
            }
        }
        for layer in &its {
            apply(&mut vars, &layer.join("env"))?;
            apply(&mut vars, &layer.join("env.launch"))?;
            if !process.kind.is_empty() {
                apply(&mut vars, &layer.join("env.launch").join(&process.kind))?;
            }
        }
    }
    let mut profiles = Vec::new();
    for layer in all.iter().map(|buildpack| entries(buildpack, true)).collect::<Result<Vec<_>>>()?.iter().flatten() {
        for (directory, programs) in [("exec.d", true), ("profile.d", false)] {
            let mut found = entries(&layer.join(directory), false)?;
            if !process.kind.is_empty() {
                found.extend(entries(&layer.join(directory).join(&process.kind), false)?);
            }
            for file in found {
                if programs { exec_d(&file, &mut vars)? } else { profiles.push(file) }
            }
        }
    }
    if process.direct {
        return direct(process, &vars);
    }
    if app.join(".profile").is_file() {
        profiles.push(".profile".into());
    }
    shell(process, &vars, &profiles, &own)
}

/// Variables that are the launcher's own.
const HIDDEN: [&str; 5] = ["CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"];

fn tables<'a>(table: &'a Table, name: &str) -> impl Iterator<Item = &'a Table> {
    let all: &[Value] = match table.get(name) {
        Some(Value::List(all)) => all,
        _ => &[],
    };
    all.iter().filter_map(|one| match one {
        Value::Table(table) => Some(table),
        _ => None,
    })
}

fn string(table: &Table, name: &str) -> String {
    table.get(name).and_then(Value::text).unwrap_or_default().to_owned()
}

/// Before Buildpack API 0.9 what the user gives is added to a process's arguments; since then it replaces them.
fn is_old(api: &str) -> bool {
    let (major, minor) = api.split_once('.').unwrap_or((api, "0"));
    major == "0" && minor.parse::<u32>().unwrap_or(u32::MAX) < 9
}

fn choose(metadata: &Table, buildpacks: &[Buildpack], own: &OsString, given: Vec<OsString>, app: &Path, exec_env: &str) -> Result<Process> {
    let name = Path::new(own).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut same = tables(metadata, "processes").filter(|one| string(one, "type") == name).peekable();
    if same.peek().is_none() {
        let mut given = given;
        let direct = given.len() > 1 && given[0] == "--";
        if direct {
            given.remove(0);
        }
        if given.is_empty() {
            return Err("determine start command: when there is no default process a command is required".into());
        }
        let command = given.remove(0).into_string().map_err(|_| "the command is not UTF-8".to_owned())?;
        let (kind, buildpack) = (String::new(), String::new());
        return Ok(Process { kind, command: vec![command], args: given, direct, buildpack, directory: app.to_owned() });
    }
    let eligible = |one: &&Table| {
        let environments = one.get("exec-env").map(Value::texts).unwrap_or_default();
        environments.is_empty() || environments.iter().any(|name| name == "*" || name == exec_env)
    };
    let table = same.find(eligible).ok_or_else(|| {
        format!("determine start command: process type {name} was not found for the environment {exec_env}")
    })?;
    let texts = |name: &str| table.get(name).map(Value::texts).unwrap_or_default();
    let buildpack = string(table, "buildpack-id");
    let mut command = texts("command");
    let mut args: Vec<OsString> = texts("args").into_iter().map(OsString::from).collect();
    if command.len() > 1 {
        let fixed: Vec<OsString> = command.drain(1..).map(OsString::from).collect();
        let rest = if given.is_empty() { args } else { given };
        args = fixed.into_iter().chain(rest).collect();
    } else if !given.is_empty() {
        let of = buildpacks.iter().find(|one| one.id == buildpack);
        let of = of.ok_or_else(|| format!("failed to find buildpack for process {name} with buildpack ID {buildpack}"))?;
        if of.old_args { args.extend(given) } else { args = given }
    }
    let directory = string(table, "working-dir");
    Ok(Process {
        kind: name.to_owned(),
        command,
        args,
        direct: matches!(table.get("direct"), Some(Value::Bool(true))),
        buildpack,
        directory: if directory.is_empty() { app.to_owned() } else { directory.into() },
    })
}

/// Directories, or all that is none, by name.
fn entries(directory: &Path, directories: bool) -> Result<Vec<PathBuf>> {
    let said = |e: std::io::Error| format!("failed to list files in dir '{}': {e}", directory.display());
    let list = match fs::read_dir(directory) {
        Ok(list) => list,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(said(e)),
    };
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.map_err(said)?;
        if entry.file_type().map_err(said)?.is_dir() == directories {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn joined(one: &[u8], delimiter: &[u8], other: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec([one, delimiter, other].concat())
}

fn before(vars: &mut Vars, name: &std::ffi::OsStr, value: OsString, delimiter: &[u8]) {
    let old = vars.get(name).filter(|old| !old.is_empty());
    let new = old.map(|old| joined(value.as_bytes(), delimiter, old.as_bytes())).unwrap_or(value);
    vars.insert(name.to_owned(), new);
}

/// Variables of a directory: the suffix of a file says how.
fn apply(vars: &mut Vars, directory: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStringExt;
    for file in entries(directory, false)? {
        if file.is_dir() {
            continue;
        }
        let read = |path: &Path| fs::read(path).map_err(|e| format!("modify env: {}: {e}", path.display()));
        let bytes = file.file_name().unwrap_or_default().as_bytes();
        let split = bytes.iter().position(|c| *c == b'.');
        let (name, how) = split.map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + 1..]));
        let name = OsString::from_vec(name.to_vec());
        let mut delimiter = name.clone();
        delimiter.push(".delim");
        let delimiter = fs::read(directory.join(delimiter)).unwrap_or_default();
        let value = OsString::from_vec(read(&file)?);
        let old = vars.get(&name).cloned().unwrap_or_default();
        match how {
            b"prepend" => before(vars, &name, value, &delimiter),
            b"append" if old.is_empty() => drop(vars.insert(name, value)),
            b"append" => drop(vars.insert(name, joined(old.as_bytes(), &delimiter, value.as_bytes()))),
            b"" | b"override" => drop(vars.insert(name, value)),
            b"default" if old.is_empty() => drop(vars.insert(name, value)),
            _ => {}
        }
    }
    Ok(())
}

unsafe extern "C" {
    fn pipe(ends: *mut i32) -> i32;
    fn dup2(from: i32, to: i32) -> i32;
    fn close(file: i32) -> i32;
}

/// The most that a program of exec.d may say.
const MOST_SAID: u64 = 16 << 20;

/// Runs a program that writes variables to its third file.
fn exec_d(file: &Path, vars: &mut Vars) -> Result<()> {
    let failed = |why: String| format!("exec.d: failed to execute exec.d file at path '{}': {why}", file.display());
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two files that a pipe is.
    if unsafe { pipe(ends.as_mut_ptr()) } != 0 {
        return Err(failed(std::io::Error::last_os_error().to_string()));
    }
    // SAFETY: the pipe was just made, and nobody else knows its ends.
    let (reader, writer) = unsafe { (fs::File::from_raw_fd(ends[0]), fs::File::from_raw_fd(ends[1])) };
    let (from, other) = (writer.as_raw_fd(), reader.as_raw_fd());
    let mut command = Command::new(file);
    command.env_clear().envs(vars.iter());
    // SAFETY: only calls that are allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if other != 3 && other != from {
                close(other);
            }
            if from != 3 {
                if dup2(from, 3) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                close(from);
            }
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    drop(writer);
    let mut said = String::new();
    let read = reader.take(MOST_SAID).read_to_string(&mut said);
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    read.map_err(|e| failed(e.to_string()))?;
    let wrong = |why: &str| format!("exec.d: failed to decode output from exec.d file at path '{}': {why}", file.display());
    for (name, value) in toml::parse(&said).map_err(|why| wrong(&why))? {
        let Some(value) = value.text() else { return Err(wrong(&format!("`{name}` is no text"))) };
        vars.insert(name.into(), value.into());
    }
    Ok(())
}

fn replace(mut command: Command, vars: &Vars, what: &str) -> Result<()> {
    command.env_clear().envs(vars.iter());
    Err(format!("{what}: {}", command.exec()))
}

/// Without a shell: the program is looked for in the new PATH.
fn direct(process: Process, vars: &Vars) -> Result<()> {
    let name = process.command.first().ok_or_else(|| format!("no command provided for process type {:?}", process.kind))?;
    let path = vars.get(&OsString::from("PATH")).cloned().unwrap_or_default();
    let program = if name.contains('/') {
        PathBuf::from(name)
    } else {
        let mut places = env::split_paths(&path).map(|place| place.join(name));
        places.find(|file| is_program(file)).ok_or_else(|| format!("path lookup: exec: {name:?}: executable file not found in $PATH"))?
    };
    if !is_program(&program) {
        let why = if program.exists() { "permission denied" } else { "no such file or directory" };
        return Err(format!("path lookup: exec: {name:?}: {why}"));
    }
    // A path that is relative is so from the application, not from the working directory of the process.
    let program = env::current_dir().map_or(program.clone(), |here| here.join(&program));
    env::set_current_dir(&process.directory).map_err(|e| format!("change directory: {}: {e}", process.directory.display()))?;
    let mut command = Command::new(program);
    command.arg0(name).args(&process.command[1..]).args(&process.args);
    replace(command, vars, "direct exec")
}

fn is_program(file: &Path) -> bool {
    unsafe extern "C" {
        fn access(path: *const std::ffi::c_char, mode: i32) -> i32;
    }
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends in a NUL. 1 asks whether it may be executed.
    file.is_file() && unsafe { access(path.as_ptr(), 1) } == 0
}

/// By bash, behind the profiles.
fn shell(process: Process, vars: &Vars, profiles: &[PathBuf], own: &OsString) -> Result<()> {
    if !Path::new("/bin/bash").exists() {
        return Err("the process wants a shell, and the image has no /bin/bash: take a run image with bash, or start it directly, as `-- command`".into());
    }
    let script = process.args.is_empty();
    if !process.buildpack.is_empty() && process.command.is_empty() {
        return Err(format!("no command provided for process type {:?}", process.kind));
    }
    let mut text: Vec<u8> = Vec::new();
    for profile in profiles {
        text.extend([b"source \"", profile.as_os_str().as_bytes(), b"\"\n"].concat());
    }
    text.extend([b"cd \"", process.directory.as_os_str().as_bytes(), b"\"\n"].concat());
    if script {
        text.extend(b"exec bash -c \"$@\"");
    } else {
        // Each word is evaluated once, and stays one word.
        let words: Vec<String> = (0..=process.args.len()).map(|at| format!("\"$(eval echo \\\"${{{at}}}\\\")\"")).collect();
        text.extend(format!("exec bash -c '{}' \"${{@:1}}\"", words.join(" ")).as_bytes());
    }
    let text: OsString = std::os::unix::ffi::OsStringExt::from_vec(text);
    let mut command = Command::new("/bin/bash");
    command.arg0("bash").arg("-c").arg(text).arg(own).arg(process.command.join(" ")).args(&process.args);
    replace(command, vars, "bash exec")
}
