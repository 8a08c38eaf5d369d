//! Sets of templates and the rendering of one chart's worth of them.

use std::{
    collections::{HashSet, hash_map::Entry},
    hash::BuildHasher,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    error::{Error, Place},
    exec::{self, Held, Scope, unvalued},
    functions::{Fail, Family, regex::Pattern},
    parse::{Parsed, parse},
    trace::{Behind, Guards, Read, Recorder, Traced},
    tree::{Tree, is_empty},
    value::{Names, Text, Value},
};

/// What a field of a map gives that has no such key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// Go's default: no value.
    Default,
    /// The zero value of the map's type: what Helm asks for.
    #[default]
    Zero,
    /// An error: `helm --strict`.
    Error,
}

/// What a rendering may cost at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pieces of templates carried out, and work of functions in like measure; some ten million a second.
    pub steps: u64,
    /// Bytes of output, those of included templates counted again.
    pub output: usize,
    /// Bytes of one string.
    pub text: usize,
    /// `include` of one template within itself; Helm's is 1,000.
    pub includes: usize,
    /// `include` and `tpl` within each other, whatever their names.
    pub nesting: usize,
    /// `template` within `template`; Go's is 100,000.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 300_000_000, output: 512 << 20, text: 64 << 20, includes: 1000, nesting: 3000, depth: 5000 }
    }
}

/// How to render.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a key gives that is not there.
    pub missing_key: MissingKey,
    /// As in `helm lint`: `fail` and `required` let it pass.
    pub lint: bool,
    /// What `now` is.
    pub now: jiff::Timestamp,
    /// What everything random is made from. The same seed, template and place in it give the same result.
    pub seed: u64,
    /// Whether to note where each byte of output comes from.
    pub trace: bool,
    /// The zone that dates are printed in when none is named.
    pub zone: jiff::tz::TimeZone,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            missing_key: MissingKey::Zero,
            lint: false,
            now: jiff::Timestamp::UNIX_EPOCH,
            seed: 0,
            trace: false,
            zone: jiff::tz::TimeZone::UTC,
            limits: Limits::default(),
        }
    }
}

/// What a template may ask of the world. Without any, `lookup` finds nothing and hosts have no address, as in `helm template`.
pub trait Hooks {
    /// `lookup apiVersion kind namespace name`.
    fn lookup(&self, _version: &str, _kind: &str, _namespace: &str, _name: &str) -> Result<Value, String> {
        Ok(Value::Map(crate::value::Map::new()))
    }

    /// `getHostByName`.
    fn host(&self, _name: &str) -> Result<String, String> {
        Ok(String::new())
    }
}

/// No world.
pub struct Offline;

impl Hooks for Offline {}

/// Parsed texts, shared by threads, so that what many charts have in common is parsed once.
#[derive(Default)]
pub struct Cache {
    texts: Mutex<Names<u64, Vec<CacheEntry>>>,
    hash: foldhash::fast::RandomState,
}

struct CacheEntry {
    family: Family,
    name: String,
    text: String,
    parsed: Arc<Parsed>,
}

/// Bytes of text that take longer to parse than a thread to start.
const WORTH_A_THREAD: usize = 32 << 10;

/// Distinct texts in a cache; when there are more it starts anew.
const MOST_CACHED: usize = 20_000;

impl Cache {
    fn parse(&self, family: Family, name: &str, text: &str) -> Result<Arc<Parsed>, Error> {
        let key = self.hash.hash_one(text);
        let lock = || self.texts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A library chart that each part of an umbrella brings is one text under many names: only the names are made anew. A text
        // that defines its own name means something else under another.
        let same = |entry: &&CacheEntry| {
            let named = entry.name == name || !text.contains(name) && !text.contains(&entry.name);
            entry.family == family && entry.text == text && named
        };
        let known = lock().get(&key).and_then(|entries| entries.iter().find(same).map(|entry| entry.parsed.clone()));
        if let Some(parsed) = known {
            return Ok(if *parsed.trees[0].source.name == *name { parsed } else { Arc::new(parsed.named(name)) });
        }
        let parsed = Arc::new(parse(name, text, family)?);
        let mut cache = lock();
        if cache.len() >= MOST_CACHED {
            cache.clear();
        }
        let entry = CacheEntry { family, name: name.to_owned(), text: text.to_owned(), parsed: parsed.clone() };
        cache.entry(key).or_default().push(entry);
        Ok(parsed)
    }
}

/// Templates that can call each other.
#[derive(Clone)]
pub struct Set {
    family: Family,
    trees: Names<Arc<str>, Arc<Tree>>,
    cache: Option<Arc<Cache>>,
}

impl Set {
    /// An empty set whose templates may use the functions of `family`.
    pub fn new(family: Family) -> Self {
        Self { family, trees: Names::default(), cache: None }
    }

    /// The same with a cache of parsed texts.
    pub fn with_cache(family: Family, cache: Arc<Cache>) -> Self {
        Self { family, trees: Names::default(), cache: Some(cache) }
    }

    /// Parses a text and adds it under its name, together with what it defines. Later definitions replace earlier ones
    /// unless they have no content.
    pub fn parse(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let parsed = match &self.cache {
            Some(cache) => cache.parse(self.family, name, text)?,
            None => Arc::new(parse(name, text, self.family)?),
        };
        for tree in &parsed.trees {
            match self.trees.entry(tree.name.clone()) {
                Entry::Occupied(_) if is_empty(&tree.body) => {}
                Entry::Occupied(mut known) => {
                    known.insert(tree.clone());
                }
                Entry::Vacant(empty) => {
                    empty.insert(tree.clone());
                }
            }
        }
        Ok(())
    }

    /// Parses texts (name, text) ahead on all processors, so that [`parse`](Self::parse) finds them in the cache. What is wrong in
    /// them is said when their turn comes. Without a cache, or for a few texts, nothing happens.
    pub fn ahead<'t>(&self, texts: impl Iterator<Item = (&'t str, &'t str)>) {
        let Some(cache) = &self.cache else { return };
        let mut texts: Vec<(&str, &str)> = texts.collect();
        let work = |texts: &[(&str, &str)]| texts.iter().map(|(_, text)| text.len()).sum::<usize>() / WORTH_A_THREAD;
        if work(&texts) < 2 {
            return;
        }
        let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
        texts.retain(|(_, text)| seen.insert(*text));
        let most = work(&texts).min(8);
        // How many processors there are is read from a handful of files: not for nothing.
        let threads = if most < 2 { 1 } else { std::thread::available_parallelism().map_or(1, usize::from).min(most) };
        if threads < 2 {
            return;
        }
        let next = AtomicUsize::new(0);
        let parse = || {
            while let Some((name, text)) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let _ = cache.parse(self.family, name, text);
            }
        };
        std::thread::scope(|scope| {
            // This thread is one of them.
            (1..threads).for_each(|_| {
                scope.spawn(parse);
            });
            parse();
        });
    }

    /// Whether there is a template of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.trees.contains_key(name)
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.trees.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }
}

/// What a template gave.
#[derive(Clone)]
pub struct Rendered {
    /// The output, without Go's `<no value>` marks where Helm takes them out.
    pub text: Vec<u8>,
    trace: Option<Rc<Traced>>,
}

impl Rendered {
    /// The output as text, with U+FFFD for what is not UTF-8.
    pub fn to_str(&self) -> std::borrow::Cow<'_, str> {
        crate::value::lossy(&self.text)
    }

    /// The same, for whoever needs nothing else of it.
    pub fn into_string(self) -> String {
        String::from_utf8(self.text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The template lines behind a byte of the output, outermost first. Empty if [`Options::trace`] was off.
    pub fn locate(&self, offset: usize) -> Vec<Place> {
        self.trace.as_ref().map(|trace| trace.locate(offset)).unwrap_or_default()
    }

    /// What was read for a byte of the output. Nothing if [`Options::trace`] was off.
    pub fn behind(&self, offset: usize) -> Behind {
        self.trace.as_ref().map(|trace| trace.behind(offset)).unwrap_or_default()
    }

    /// What was read for any byte from `start` up to `end`, each once, and the template lines behind it, those of the first byte
    /// first. Nothing if [`Options::trace`] was off.
    pub fn within(&self, start: usize, end: usize) -> (Vec<Place>, Behind) {
        self.trace.as_ref().map(|trace| trace.within(start, end)).unwrap_or_default()
    }
}

/// Renders templates of a set, one after the other, under one budget.
pub struct Renderer<'a> {
    set: &'a Set,
    session: Session<'a>,
}

impl<'a> Renderer<'a> {
    /// Renders without asking the world for anything.
    pub fn new(set: &'a Set, options: Options) -> Self {
        Self::with_hooks(set, options, &Offline)
    }

    /// Renders, asking `hooks`.
    pub fn with_hooks(set: &'a Set, options: Options, hooks: &'a dyn Hooks) -> Self {
        Self { set, session: Session::new(options, hooks, set) }
    }

    /// Carries out one template. With Helm's functions, `<no value>` is taken out of the output as Helm does.
    pub fn render(&mut self, name: &str, data: Value) -> Result<Rendered, Error> {
        let scope = Scope { own: &self.set.trees, outer: None };
        let Some(tree) = scope.find(name.as_bytes()) else {
            return Err(Error::NoTemplate { name: name.to_owned(), set: "gotpl".to_owned() });
        };
        let mut out = Vec::new();
        let mut recorder = self.session.options.trace.then(Recorder::default);
        self.session.depth = 0;
        self.session.within = 0;
        self.session.nested.clear();
        self.session.reads.clear();
        self.session.guards = None;
        exec::run(&mut self.session, &scope, tree, Held::bare(data), &mut out, recorder.as_mut()).map_err(|e| *e)?;
        if self.set.family != Family::Go {
            if let Some(recorder) = &mut recorder {
                recorder.without(&out, b"<no value>");
            }
            out = unvalued(out);
        }
        let trace = recorder.map(|recorder| Rc::new(Traced { text: out.clone(), runs: recorder.runs }));
        Ok(Rendered { text: out, trace })
    }
}

/// What is shared by everything that one rendering carries out.
pub struct Session<'h> {
    pub options: Options,
    pub hooks: &'h dyn Hooks,
    steps: u64,
    output: usize,
    pub included: Names<Text, usize>,
    /// `template` in `template`.
    pub depth: usize,
    /// `include` and `tpl` in each other.
    pub within: usize,
    /// What the action that is being carried out has included.
    pub nested: Vec<Rc<Traced>>,
    /// What the action that is being carried out has read; only while it is traced.
    pub reads: Vec<Read>,
    /// What decided that it is carried out.
    pub guards: Option<Rc<Guards>>,
    /// The template and byte of the call of a random function.
    pub place: (Arc<str>, usize),
    pub draws: Names<(Arc<str>, usize), u64>,
    pub patterns: Names<Text, Result<Rc<Pattern>, String>>,
    parsed: Names<Text, Arc<Parsed>>,
    family: Family,
    cache: Option<Arc<Cache>>,
}

impl<'h> Session<'h> {
    fn new(options: Options, hooks: &'h dyn Hooks, set: &Set) -> Self {
        Self {
            steps: options.limits.steps,
            output: options.limits.output,
            options,
            hooks,
            included: Names::default(),
            depth: 0,
            within: 0,
            nested: Vec::new(),
            reads: Vec::new(),
            guards: None,
            place: ("".into(), 0),
            draws: Names::default(),
            patterns: Names::default(),
            parsed: Names::default(),
            family: set.family,
            cache: set.cache.clone(),
        }
    }

    /// Takes from the budget of work.
    pub fn charge(&mut self, steps: u64) -> Result<(), Fail> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Fail::Limit(format!(
                "the templates take more than {} steps; do they loop without end? Raise the limit if not",
                self.options.limits.steps
            ))),
        }
    }

    /// Takes from the budget of output.
    pub fn written(&mut self, bytes: usize) -> Result<(), Fail> {
        match self.output.checked_sub(bytes) {
            Some(left) => {
                self.output = left;
                Ok(())
            }
            None => Err(Fail::Limit(format!(
                "the templates give more than {} bytes; raise the limit if that is meant",
                self.options.limits.output
            ))),
        }
    }

    /// Whether a string of so many bytes may be made.
    pub fn room(&mut self, bytes: usize) -> Result<(), Fail> {
        if bytes > self.options.limits.text {
            return Err(Fail::Limit(format!(
                "a string of {bytes} bytes is wanted; the most is {}",
                self.options.limits.text
            )));
        }
        self.charge(bytes as u64 / 64)
    }

    /// Whether the strings among the arguments may be put together.
    pub fn room_for(&mut self, values: &[Value]) -> Result<(), Fail> {
        let total: usize = values.iter().map(|v| if let Value::Str(t) = v { t.len() } else { 0 }).sum();
        if total < 4096 { Ok(()) } else { self.room(total) }
    }

    /// The templates of a `tpl` text.
    pub fn parsed(&mut self, text: &Text) -> Result<Arc<Parsed>, Error> {
        if let Some(parsed) = self.parsed.get(text) {
            return Ok(parsed.clone());
        }
        let parsed = match &self.cache {
            Some(cache) => cache.parse(self.family, "gotpl", &text.to_str())?,
            None => Arc::new(parse("gotpl", &text.to_str(), self.family)?),
        };
        self.parsed.insert(text.clone(), parsed.clone());
        Ok(parsed)
    }
}
