//! Semantic versions.

use super::{Function, fixed, string};
use crate::{
    semver::{Constraints, Version},
    value::{Object, Param, Signature, UintKind, Value},
};

use Param::{Any, Str};

pub const TABLE: &[Function] = &[
    fixed("semver", &[Str], |_, v| Ok(Value::object(Version::parse(&string(v, 0))?))),
    fixed("semverCompare", &[Str, Str], |_, v| {
        let constraints = Constraints::parse(&string(v, 0))?;
        let version = Version::parse(&string(v, 1))?;
        Ok(Value::Bool(constraints.check(&version)))
    }),
];

fn uint(n: u64) -> Value {
    Value::Uint(UintKind::Uint64, n)
}

impl Object for Version {
    fn type_name(&self) -> &str {
        "*semver.Version"
    }

    fn method(&self, name: &str) -> Option<Signature> {
        match name {
            "Major" | "Minor" | "Patch" | "Prerelease" | "Metadata" | "Original" | "String" | "IncPatch"
            | "IncMinor" | "IncMajor" => Some(Signature::new(&[])),
            "Compare" | "Equal" | "LessThan" | "GreaterThan" | "LessThanEqual" | "GreaterThanEqual" => {
                Some(Signature::new(&[Any]))
            }
            "SetPrerelease" | "SetMetadata" => Some(Signature::new(&[Str])),
            _ => None,
        }
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let other = |at: usize| match args.get(at) {
            Some(Value::Object(object)) => object.as_any().downcast_ref::<Self>().cloned(),
            _ => None,
        };
        let wrong = || format!("wrong type for value; expected *semver.Version; got {}", args[0].type_name());
        let order = || other(0).map(|other| self.cmp(&other)).ok_or_else(wrong);
        let bumped = |major: u64, minor: u64, patch: u64, pre: &str, metadata: &str| {
            let v = if self.original.starts_with('v') { "v" } else { "" };
            let mut next = Self {
                major,
                minor,
                patch,
                pre: pre.to_owned(),
                metadata: metadata.to_owned(),
                original: String::new(),
            };
            next.original = format!("{v}{next}");
            Value::object(next)
        };
        Ok(match name {
            "Major" => uint(self.major),
            "Minor" => uint(self.minor),
            "Patch" => uint(self.patch),
            "Prerelease" => Value::str(self.pre.as_str()),
            "Metadata" => Value::str(self.metadata.as_str()),
            "Original" => Value::str(self.original.as_str()),
            "String" => Value::str(self.to_string()),
            "Compare" => Value::int(order()? as i64),
            "Equal" => Value::Bool(order()?.is_eq()),
            "LessThan" => Value::Bool(order()?.is_lt()),
            "LessThanEqual" => Value::Bool(order()?.is_le()),
            "GreaterThan" => Value::Bool(order()?.is_gt()),
            "GreaterThanEqual" => Value::Bool(order()?.is_ge()),
            "IncPatch" if !self.pre.is_empty() => bumped(self.major, self.minor, self.patch, "", ""),
            "IncPatch" => bumped(self.major, self.minor, self.patch.saturating_add(1), "", ""),
            "IncMinor" => bumped(self.major, self.minor.saturating_add(1), 0, "", ""),
            "IncMajor" => bumped(self.major.saturating_add(1), 0, 0, "", ""),
            "SetPrerelease" => bumped(self.major, self.minor, self.patch, &string(args, 0), &self.metadata),
            "SetMetadata" => bumped(self.major, self.minor, self.patch, &self.pre, &string(args, 0)),
            _ => return Err(format!("no method {name}")),
        })
    }

    fn string(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn data(&self) -> Value {
        Value::str(self.to_string())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
