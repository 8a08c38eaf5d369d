//! `RUN --mount`: what a command sees besides its root file system.

use graph::{CacheMount, Exec, Mount, Op, SecretFile, SecretUse, Sharing, SshAgent, Tmpfs};

use super::{
    settings::absolute,
    stage::{Lowering, State},
    stages::Reference,
};
use crate::{
    Result,
    diagnostic::{Diagnostic, Spanned, did_you_mean},
};

/// The options of each type, with the names that mean the same first.
const BIND: &[&str] = &["target", "source", "from", "rw", "ro"];
const CACHE: &[&str] = &["id", "target", "ro", "rw", "sharing", "from", "source", "mode", "uid", "gid"];
const TMPFS: &[&str] = &["target", "size"];
const SECRET: &[&str] = &["id", "target", "required", "mode", "uid", "gid", "env"];
const SSH: &[&str] = &["id", "target", "required", "mode", "uid", "gid"];

/// The options of one mount.
struct Given {
    place: Spanned<String>,
    options: Vec<(String, Option<String>)>,
}

impl Given {
    fn get(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    fn is_given(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| n == name)
    }
}

impl Lowering<'_> {
    pub fn mount(
        &mut self,
        state: &State,
        place: &Spanned<String>,
        value: &str,
        exec: &mut Exec,
        inputs: &mut Vec<usize>,
    ) -> Result<()> {
        let mut given = Given { place: place.clone(), options: Vec::new() };
        for part in fields(value) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim().to_ascii_lowercase(), Some(value.to_owned())),
                None => (part.trim().to_ascii_lowercase(), None),
            };
            let name = match name.as_str() {
                "dst" | "destination" => "target",
                "src" => "source",
                "readwrite" => "rw",
                "readonly" => "ro",
                name => name,
            };
            given.options.push((name.to_owned(), value));
        }
        let kind = given.get("type").unwrap_or("bind").to_owned();
        let known = match kind.as_str() {
            "bind" => BIND,
            "cache" => CACHE,
            "tmpfs" => TMPFS,
            "secret" => SECRET,
            "ssh" => SSH,
            kind => {
                let types = ["bind", "cache", "tmpfs", "secret", "ssh"];
                let guess = did_you_mean(kind, types).map(|near| format!("did you mean `{near}`?"));
                let hint = guess.unwrap_or_else(|| format!("there are {}", types.join(", ")));
                return Err(self.error(place, format!("there is no mount of type `{kind}`")).hint(hint).into());
            }
        };
        for (name, _) in given.options.iter().filter(|(name, _)| name != "type") {
            if !known.contains(&name.as_str()) {
                let guess = did_you_mean(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let hint = guess.unwrap_or_else(|| format!("it takes {}", known.join(", ")));
                let reason = format!("a mount of type {kind} knows no option `{name}`");
                return Err(self.error(place, reason).hint(hint).into());
            }
        }
        match kind.as_str() {
            "bind" => self.bind_mount(state, &given, exec, inputs),
            "cache" => self.cache_mount(state, &given, exec, inputs),
            "tmpfs" => self.tmpfs_mount(state, &given, exec),
            "secret" => self.secret_mount(state, &given, exec),
            _ => self.ssh_mount(state, &given, exec),
        }
    }

    fn target(&self, state: &State, given: &Given) -> Result<String> {
        match given.get("target").filter(|target| !target.is_empty()) {
            Some(target) => Ok(absolute(target, state.config.config.directory())),
            None => Err(self.error(&given.place, "a mount needs a target").hint("add target=/path").into()),
        }
    }

    fn switch(&self, given: &Given, name: &str) -> Result<bool> {
        match (given.is_given(name), given.get(name)) {
            (false, _) => Ok(false),
            (true, None | Some("true" | "1" | "")) => Ok(true),
            (true, Some("false" | "0")) => Ok(false),
            (true, Some(other)) => {
                let reason = format!("`{name}` is true or false, not `{other}`");
                Err(self.error(&given.place, reason).into())
            }
        }
    }

    fn number(&self, given: &Given, name: &str, radix: u32, default: u32) -> Result<u32> {
        let Some(text) = given.get(name) else { return Ok(default) };
        let number = u32::from_str_radix(text, radix).ok().filter(|number| name != "mode" || *number <= 0o7777);
        number.ok_or_else(|| {
            let what = if radix == 8 { "a mode in octal digits" } else { "a number" };
            self.error(&given.place, format!("`{name}={text}` is not {what}")).into()
        })
    }

    fn bind_mount(&mut self, state: &State, given: &Given, exec: &mut Exec, inputs: &mut Vec<usize>) -> Result<()> {
        let target = self.target(state, given)?;
        let source = crate::ignore::clean(given.get("source").unwrap_or_default());
        let vertex = self.mount_source(given, &source)?;
        let writable = self.switch(given, "rw")? && !self.switch(given, "ro")?;
        exec.mounts.push(Mount { input: inputs.len() + 1, source, target, writable });
        inputs.push(vertex);
        Ok(())
    }

    /// The vertex that a mount is taken from: of a context only what is meant.
    fn mount_source(&mut self, given: &Given, source: &str) -> Result<usize> {
        let Some(from) = given.get("from") else {
            let files = self.select_in(self.context, source, &given.place)?;
            return Ok(self.add_context(files, [source.to_owned()]));
        };
        let from = Spanned::new(from.to_owned(), given.place.span);
        if let Reference::Context(name) = self.reference(&from)?
            && let Some(super::Named::Tree(tree)) = self.options.contexts.get(&name)
        {
            let files = self.select_in(tree, source, &given.place)?;
            return Ok(self.add(&format!("context {name}"), Op::Files(files), Vec::new()));
        }
        self.from(&from)
    }

    fn cache_mount(&mut self, state: &State, given: &Given, exec: &mut Exec, inputs: &mut Vec<usize>) -> Result<()> {
        let target = self.target(state, given)?;
        let id = given.get("id").filter(|id| !id.is_empty()).unwrap_or(&target);
        let sharing = match given.get("sharing") {
            None | Some("shared") => Sharing::Shared,
            Some("private") => Sharing::Private,
            Some("locked") => Sharing::Locked,
            Some(other) => {
                let reason = format!("a cache is shared, private or locked, not `{other}`");
                return Err(self.error(&given.place, reason).into());
            }
        };
        let source = crate::ignore::clean(given.get("source").unwrap_or_default());
        let from = if given.is_given("from") {
            let vertex = self.mount_source(given, &source)?;
            inputs.push(vertex);
            Some((inputs.len(), source))
        } else if source.is_empty() {
            None
        } else {
            let hint = "say which stage or image it begins with: from=NAME";
            return Err(self.error(&given.place, "`source` of a cache needs `from`").hint(hint).into());
        };
        exec.caches.push(CacheMount {
            id: format!("{}{id}", self.options.cache_namespace),
            sharing,
            readonly: self.switch(given, "ro")?,
            from,
            mode: self.number(given, "mode", 8, 0o755)?,
            uid: self.number(given, "uid", 10, 0)?,
            gid: self.number(given, "gid", 10, 0)?,
            target,
        });
        Ok(())
    }

    fn tmpfs_mount(&mut self, state: &State, given: &Given, exec: &mut Exec) -> Result<()> {
        let size = match given.get("size") {
            None => None,
            Some(text) => Some(bytes(text).ok_or_else(|| -> Diagnostic {
                self.error(&given.place, format!("`size={text}` is no size")).hint("for example size=64m")
            })?),
        };
        exec.tmpfs.push(Tmpfs { target: self.target(state, given)?, size });
        Ok(())
    }

    fn secret_mount(&mut self, state: &State, given: &Given, exec: &mut Exec) -> Result<()> {
        let target = given.get("target").filter(|target| !target.is_empty());
        let env = given.get("env").filter(|env| !env.is_empty());
        let last = target.and_then(|target| target.rsplit('/').next());
        let Some(id) = given.get("id").filter(|id| !id.is_empty()).or(last).or(env) else {
            return Err(self.error(&given.place, "a secret needs an id").hint("add id=NAME").into());
        };
        let (id, required) = (id.to_owned(), self.switch(given, "required")?);
        if let Some(known) = self.options.secrets.as_ref()
            && !known.contains(&id)
        {
            if !required {
                return Ok(());
            }
            let reason = format!("the secret `{id}` is needed here, and the build has none of that name");
            return Err(self
                .error(&given.place, reason)
                .hint(format!("give it with --secret id={id},src=FILE"))
                .into());
        }
        if let Some(env) = env {
            exec.secrets.push(SecretUse { name: id.clone(), env: env.to_owned() });
        }
        if target.is_some() || env.is_none() {
            let target =
                target.map_or_else(|| format!("/run/secrets/{id}"), |t| absolute(t, state.config.config.directory()));
            exec.secret_files.push(SecretFile {
                name: id,
                target,
                mode: self.number(given, "mode", 8, 0o400)?,
                uid: self.number(given, "uid", 10, 0)?,
                gid: self.number(given, "gid", 10, 0)?,
            });
        }
        Ok(())
    }

    fn ssh_mount(&mut self, state: &State, given: &Given, exec: &mut Exec) -> Result<()> {
        let id = given.get("id").filter(|id| !id.is_empty()).unwrap_or("default").to_owned();
        let required = self.switch(given, "required")?;
        if let Some(known) = self.options.agents.as_ref()
            && !known.contains(&id)
        {
            if !required {
                return Ok(());
            }
            let reason = format!("the SSH agent `{id}` is needed here, and the build has none of that name");
            return Err(self.error(&given.place, reason).hint(format!("give it with --ssh {id}")).into());
        }
        let target = match given.get("target").filter(|target| !target.is_empty()) {
            Some(target) => absolute(target, state.config.config.directory()),
            None => format!("/run/buildkit/ssh_agent.{}", exec.agents.len()),
        };
        exec.agents.push(SshAgent {
            id,
            target,
            mode: self.number(given, "mode", 8, 0o600)?,
            uid: self.number(given, "uid", 10, 0)?,
            gid: self.number(given, "gid", 10, 0)?,
        });
        Ok(())
    }
}

/// The fields of a line of comma-separated values; one in double quotes may hold commas.
pub fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// Bytes: `64m`, `1g`, `512kb`, `1048576`.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_and_sizes_are_read() {
        assert_eq!(super::fields(r#"type=secret,"id=a,b","x="""y""#), ["type=secret", "id=a,b", "x=\"y"]);
        assert_eq!(super::fields(""), [""]);
        for (text, expected) in [
            ("64m", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("12", Some(12)),
            ("2kb", Some(2048)),
            ("m", None),
            ("1x", None),
            ("99999999999999999t", None),
        ] {
            assert_eq!(super::bytes(text), expected, "{text}");
        }
    }
}
