//! The values that templates work on: Go's dynamic values as far as a template can see them.

use std::{
    borrow::Borrow,
    cell::{Ref, RefCell},
    collections::{BTreeMap, HashMap},
    fmt,
    rc::Rc,
    sync::Arc,
};

/// A Go string: bytes, nearly always UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, with U+FFFD in place of what is not UTF-8.
    pub fn to_str(&self) -> std::borrow::Cow<'_, str> {
        lossy(&self.0)
    }

    /// The text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is found by its name, with a hash that costs little for short ones; it is seeded anew in every process.
pub(crate) type Names<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Bytes as text, with U+FFFD in place of what is not UTF-8. What nearly everything is, is seen to be text many bytes at a time.
pub fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Arc::from(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Arc::from(text.into_bytes()))
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::from(bytes))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_str())
    }
}

/// Signed integer types; the last three print as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntKind {
    /// `int`: literals, `len`, indices.
    Int,
    /// `int32`.
    Int32,
    /// `int64`: what Sprig's arithmetic gives, and `--set a=1`.
    Int64,
    /// `time.Duration`, nanoseconds.
    Duration,
    /// `time.Month`.
    Month,
    /// `time.Weekday`.
    Weekday,
}

/// Unsigned integer types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UintKind {
    /// `uint8`: a byte of a string.
    Uint8,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
}

/// What the elements of a list are declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `interface {}`.
    Any,
    /// `string`.
    Str,
    /// `int`.
    Int,
    /// `[]interface {}`.
    List,
    /// Something else, named as Go's `%T` names it.
    Named(&'static str),
}

/// What the values of a map are declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// `map[string]interface {}`.
    Any,
    /// `map[string]string`.
    Str,
    /// A named type over `map[string]interface {}`, like `chartutil.Values`.
    Named(&'static str),
}

/// A value. Maps are shared and mutable as Go's are (`set` is seen by everybody who has the map); the rest is immutable.
#[derive(Clone, Default)]
pub enum Value {
    /// `nil`.
    #[default]
    Nil,
    /// `bool`.
    Bool(bool),
    /// Signed integers.
    Int(IntKind, i64),
    /// Unsigned integers.
    Uint(UintKind, u64),
    /// `float64`: every number that was read from YAML or JSON.
    Float(f64),
    /// `complex128`.
    Complex(f64, f64),
    /// `string`.
    Str(Text),
    /// `[]uint8`.
    Bytes(Text),
    /// Slices.
    List(List),
    /// Maps with string keys.
    Map(Map),
    /// Whatever has methods or fields.
    Object(Rc<dyn Object>),
}

/// An immutable list.
#[derive(Clone)]
pub struct List(Rc<ListData>);

struct ListData {
    element: Element,
    nil: bool,
    items: Vec<Value>,
}

impl List {
    /// `[]interface {}`.
    pub fn new(items: Vec<Value>) -> Self {
        Self::of(Element::Any, items)
    }

    /// A list with declared elements.
    pub fn of(element: Element, items: Vec<Value>) -> Self {
        Self(Rc::new(ListData { element, nil: false, items }))
    }

    /// The nil slice: empty, but JSON's `null`.
    pub fn nil(element: Element) -> Self {
        Self(Rc::new(ListData { element, nil: true, items: Vec::new() }))
    }

    /// What the elements are declared to be.
    pub fn element(&self) -> Element {
        self.0.element
    }

    /// Whether this is the nil slice.
    pub fn is_nil(&self) -> bool {
        self.0.nil
    }

    /// Whether both are one and the same.
    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl std::ops::Deref for List {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        &self.0.items
    }
}

/// A shared, mutable map with string keys, kept in the order of the keys.
#[derive(Clone)]
pub struct Map(Rc<MapData>);

struct MapData {
    kind: MapType,
    cells: RefCell<BTreeMap<Text, Value>>,
}

impl Default for Map {
    fn default() -> Self {
        Self::new()
    }
}

impl Map {
    /// An empty `map[string]interface {}`.
    pub fn new() -> Self {
        Self::of(MapType::Any)
    }

    /// An empty map of a type.
    pub fn of(kind: MapType) -> Self {
        Self(Rc::new(MapData { kind, cells: RefCell::default() }))
    }

    /// The declared type.
    pub fn kind(&self) -> MapType {
        self.0.kind
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value> {
        self.0.cells.borrow().get(key.as_ref()).cloned()
    }

    /// Whether there is such a key.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> bool {
        self.0.cells.borrow().contains_key(key.as_ref())
    }

    /// Sets a key, for everybody who holds this map.
    pub fn insert(&self, key: impl Into<Text>, value: impl Into<Value>) {
        let old = self.0.cells.borrow_mut().insert(key.into(), value.into());
        drop(old);
    }

    /// Takes a key away, for everybody who holds this map.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Option<Value> {
        self.0.cells.borrow_mut().remove(key.as_ref())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.cells.borrow().len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.cells.borrow().is_empty()
    }

    /// The cells as they are now; nothing may be set while this is held.
    pub fn cells(&self) -> Ref<'_, BTreeMap<Text, Value>> {
        self.0.cells.borrow()
    }

    /// A copy of the pairs, in order.
    pub fn pairs(&self) -> Vec<(Text, Value)> {
        self.0.cells.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Whether both are one and the same.
    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// A number that no other map has as long as this one lives.
    pub fn address(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }
}

/// A `map[string]interface {}` of these cells.
impl From<BTreeMap<Text, Value>> for Map {
    fn from(cells: BTreeMap<Text, Value>) -> Self {
        Self(Rc::new(MapData { kind: MapType::Any, cells: RefCell::new(cells) }))
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Takes nested containers apart one after the other: a list in a list in a list … must not be dropped by recursion.
fn dismantle(first: impl Iterator<Item = Value>) {
    let mut rest: Vec<Value> = first.filter(|v| matches!(v, Value::List(_) | Value::Map(_))).collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::List(list) => {
                if let Some(mut data) = Rc::into_inner(list.0) {
                    rest.append(&mut data.items);
                }
            }
            Value::Map(map) => {
                if let Some(data) = Rc::into_inner(map.0) {
                    rest.extend(std::mem::take(&mut *data.cells.borrow_mut()).into_values());
                }
            }
            _ => {}
        }
    }
}

impl Drop for ListData {
    fn drop(&mut self) {
        if self.items.iter().any(|v| matches!(v, Value::List(_) | Value::Map(_))) {
            dismantle(std::mem::take(&mut self.items).into_iter());
        }
    }
}

impl Drop for MapData {
    fn drop(&mut self) {
        let cells = self.cells.get_mut();
        if cells.values().any(|v| matches!(v, Value::List(_) | Value::Map(_))) {
            dismantle(std::mem::take(cells).into_values());
        }
    }
}

/// A value with methods or fields of its own, as the caller or a function makes them: `.Files`, `.Capabilities`, a time.
pub trait Object {
    /// As Go's `%T` prints it, like `*chartutil.Capabilities`.
    fn type_name(&self) -> &str;

    /// An exported field.
    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    /// All exported fields in order, as `%v` prints them.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// What a method takes, if there is one of that name.
    fn method(&self, _name: &str) -> Option<Signature> {
        None
    }

    /// Calls a method; number and types of the arguments were checked before. An error is what Go's error would say.
    fn call(&self, name: &str, _args: &[Value]) -> Result<Value, String> {
        Err(format!("no method {name}"))
    }

    /// The map or list that this is below its methods: what `range`, `len`, `index` and printing see.
    fn underlying(&self) -> Option<Value> {
        None
    }

    /// What `String()` gives, for a type that has it.
    fn string(&self) -> Option<String> {
        None
    }

    /// What `toYaml` and `toJson` print; by default the underlying value, or else the fields.
    fn data(&self) -> Value {
        self.underlying().unwrap_or_else(|| {
            let map = Map::new();
            self.fields().into_iter().for_each(|(name, value)| map.insert(name, value));
            Value::Map(map)
        })
    }

    /// For those who made it.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// A parameter of a function or method, by its Go type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// `interface {}`.
    Any,
    /// `reflect.Value`: what the functions of Go itself take.
    Reflect,
    /// `string`.
    Str,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `uint32`.
    Uint32,
    /// `float64`.
    Float,
    /// `[]interface {}`.
    List,
    /// `map[string]interface {}`.
    Map,
    /// `time.Time`.
    Time,
    /// What Sprig's certificate functions give to each other.
    Certificate,
}

impl Param {
    /// As Go names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Reflect => "reflect.Value",
            Self::Str => "string",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint32 => "uint32",
            Self::Float => "float64",
            Self::List => "[]interface {}",
            Self::Map => "map[string]interface {}",
            Self::Time => "time.Time",
            Self::Certificate => "sprig.certificate",
        }
    }

    /// Whether `nil` is one.
    pub fn takes_nil(self) -> bool {
        matches!(self, Self::Any | Self::Reflect | Self::List | Self::Map)
    }

    /// Whether a value that is not `nil` is one.
    pub fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any | Self::Reflect, _)
            | (Self::Str, Value::Str(_))
            | (Self::Bool, Value::Bool(_))
            | (Self::Int, Value::Int(IntKind::Int, _))
            | (Self::Uint32, Value::Uint(UintKind::Uint32, _))
            | (Self::Float, Value::Float(_)) => true,
            (Self::List, Value::List(list)) => list.element() == Element::Any,
            (Self::Map, Value::Map(map)) => map.kind() != MapType::Str,
            (Self::Time | Self::Certificate, Value::Object(object)) => object.type_name() == self.name(),
            _ => false,
        }
    }
}

/// What a function or method takes.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The fixed parameters.
    pub params: &'static [Param],
    /// What any number of further arguments are.
    pub rest: Option<Param>,
}

impl Signature {
    /// Just these.
    pub const fn new(params: &'static [Param]) -> Self {
        Self { params, rest: None }
    }
}

impl Value {
    /// A string.
    pub fn str(text: impl Into<Text>) -> Self {
        Self::Str(text.into())
    }

    /// Go's `int`.
    pub fn int(n: i64) -> Self {
        Self::Int(IntKind::Int, n)
    }

    /// Go's `int64`.
    pub fn int64(n: i64) -> Self {
        Self::Int(IntKind::Int64, n)
    }

    /// A `[]interface {}`.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::new(items))
    }

    /// A `[]string`.
    pub fn strings<T: Into<Text>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(List::of(Element::Str, items.into_iter().map(|t| Self::Str(t.into())).collect()))
    }

    /// A `map[string]interface {}`.
    pub fn map<K: Into<Text>, V: Into<Self>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let map = Map::new();
        pairs.into_iter().for_each(|(k, v)| map.insert(k, v));
        Self::Map(map)
    }

    /// An object.
    pub fn object(object: impl Object + 'static) -> Self {
        Self::Object(Rc::new(object))
    }

    /// The text, if this is a string in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => text.as_str(),
            _ => None,
        }
    }

    /// The map, if this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&List> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Whether this is `nil`.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The type as Go's `%T` prints it.
    pub fn type_name(&self) -> String {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(kind, _) => match kind {
                IntKind::Int => "int",
                IntKind::Int32 => "int32",
                IntKind::Int64 => "int64",
                IntKind::Duration => "time.Duration",
                IntKind::Month => "time.Month",
                IntKind::Weekday => "time.Weekday",
            },
            Self::Uint(kind, _) => match kind {
                UintKind::Uint8 => "uint8",
                UintKind::Uint32 => "uint32",
                UintKind::Uint64 => "uint64",
            },
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::Str(_) => "string",
            Self::Bytes(_) => "[]uint8",
            Self::List(list) => match list.element() {
                Element::Any => "[]interface {}",
                Element::Str => "[]string",
                Element::Int => "[]int",
                Element::List => "[][]interface {}",
                Element::Named(name) => return format!("[]{name}"),
            },
            Self::Map(map) => match map.kind() {
                MapType::Any => "map[string]interface {}",
                MapType::Str => "map[string]string",
                MapType::Named(name) => name,
            },
            Self::Object(object) => return object.type_name().to_owned(),
        }
        .to_owned()
    }

    /// The kind as Go's `reflect.Kind` prints it.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(IntKind::Int | IntKind::Month | IntKind::Weekday, _) => "int",
            Self::Int(IntKind::Int32, _) => "int32",
            Self::Int(IntKind::Int64 | IntKind::Duration, _) => "int64",
            Self::Uint(UintKind::Uint8, _) => "uint8",
            Self::Uint(UintKind::Uint32, _) => "uint32",
            Self::Uint(UintKind::Uint64, _) => "uint64",
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::Str(_) => "string",
            Self::Bytes(_) | Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Object(object) => match object.underlying() {
                Some(value) => value.kind_name(),
                None if object.type_name().starts_with('*') => "ptr",
                None => "struct",
            },
        }
    }

    /// Go's truth: not the zero value of its type, and not empty.
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(_, n) => *n != 0,
            Self::Uint(_, n) => *n != 0,
            Self::Float(f) => *f != 0.0,
            Self::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Self::Str(text) | Self::Bytes(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Object(object) => object.underlying().is_none_or(|value| value.truth()),
        }
    }

    /// This, or what an object is below its methods.
    pub fn plain(&self) -> Self {
        match self {
            Self::Object(object) => object.underlying().unwrap_or_else(|| self.clone()),
            other => other.clone(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::printf::sprint(std::slice::from_ref(self)).to_str())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::str(text)
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::Str(text)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<f64> for Value {
    fn from(f: f64) -> Self {
        Self::Float(f)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::list(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

/// As `json.Unmarshal` fills an `interface {}`: every number is a `float64`.
impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(b) => Self::Bool(b),
            serde_json::Value::Number(n) => Self::Float(n.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Self::str(text),
            serde_json::Value::Array(items) => Self::list(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Self::map(map),
        }
    }
}
