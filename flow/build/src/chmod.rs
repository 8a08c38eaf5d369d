//! The letters of chmod, as `COPY --chmod` takes them: `u=rwX,go=rX`, `+x`, `a-w,u+s`. What POSIX says of the utility, with a umask of 022
//! where nobody is named.

/// Clauses that one text may have.
const MOST: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// Bits of 0o7: user 4, group 2, others 1.
    who: u32,
    /// Nobody was named, so the umask holds.
    masked: bool,
    sign: Sign,
    letters: String,
}

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes(Vec<Clause>);

impl Modes {
    /// An error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{}` is no mode: write octal digits, or letters such as u=rwX,go=rX", text.escape_debug());
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let signs = part.find(['+', '-', '=']).ok_or_else(wrong)?;
            let mut who = 0;
            for c in part[..signs].chars() {
                who |= match c {
                    'u' => 4,
                    'g' => 2,
                    'o' => 1,
                    'a' => 7,
                    _ => return Err(wrong()),
                };
            }
            let masked = who == 0;
            let mut rest = &part[signs..];
            while let Some(first) = rest.chars().next() {
                let sign = match first {
                    '+' => Sign::Add,
                    '-' => Sign::Remove,
                    '=' => Sign::Set,
                    _ => return Err(wrong()),
                };
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
                let letters = &rest[1..end];
                let copies = matches!(letters, "u" | "g" | "o");
                if !copies && !letters.chars().all(|c| "rwxXst".contains(c)) {
                    return Err(wrong());
                }
                if clauses.len() == MOST {
                    return Err(format!("a mode has at most {MOST} changes"));
                }
                let who = if masked { 7 } else { who };
                clauses.push(Clause { who, masked, sign, letters: letters.to_owned() });
                rest = &rest[end..];
            }
        }
        Ok(Self(clauses))
    }

    /// The permission bits after the change.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        self.0.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, directory))
    }
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut three = 0;
        let mut special = 0;
        for c in self.letters.chars() {
            match c {
                'r' => three |= 4,
                'w' => three |= 2,
                'x' => three |= 1,
                'X' if directory || mode & 0o111 != 0 => three |= 1,
                's' => special |= set_ids(self.who),
                't' => special |= 0o1000,
                'u' => three |= mode >> 6 & 7,
                'g' => three |= mode >> 3 & 7,
                'o' => three |= mode & 7,
                _ => {}
            }
        }
        let spread = |bits: u32| {
            let part = |who: u32, shift: u32| if self.who & who != 0 { bits << shift } else { 0 };
            part(4, 6) | part(2, 3) | part(1, 0)
        };
        let mask = if self.masked { !0o022 } else { !0 };
        let bits = (spread(three) & mask) | special;
        match self.sign {
            Sign::Add => mode | bits,
            Sign::Remove => mode & !bits,
            // A directory keeps its set-id bits, as with every chmod that people use.
            Sign::Set => {
                let cleared = spread(7) | if directory { 0 } else { set_ids(self.who) };
                (mode & !cleared) | bits
            }
        }
    }
}

/// Set-user-id where users are meant, set-group-id where groups are.
fn set_ids(who: u32) -> u32 {
    let user = if who & 4 != 0 { 0o4000 } else { 0 };
    let group = if who & 2 != 0 { 0o2000 } else { 0 };
    user | group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_what_chmod_changes() {
        // (text, before, directory, after): what the utility of GNU does under a umask of 022.
        for (text, before, directory, after) in [
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o777, false, 0o555),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("go=", 0o777, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o755, true, 0o1755),
            ("u+rw-x", 0o100, false, 0o600),
            ("=r", 0o777, false, 0o444),
            ("+w", 0o444, false, 0o644),
            ("u=rw", 0o4755, false, 0o655),
        ] {
            let found = Modes::parse(text).unwrap().apply(before, directory);
            assert_eq!(found, after, "{text} {before:o}: {found:o}");
        }
        for wrong in ["", "755", "u", "u+q", "z+x", "u+x,", "u+gr", "+x;rm"] {
            assert!(Modes::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ugoa+=,rwxXst-]{0,24}", mode in 0u32..0o10000, directory: bool) {
            if let Ok(modes) = Modes::parse(&text) {
                proptest::prop_assert!(modes.apply(mode, directory) <= 0o7777);
            }
        }
    }
}
