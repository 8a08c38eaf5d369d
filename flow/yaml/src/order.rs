//! The order in which go-yaml prints the keys of a map.

use std::cmp::Ordering;

use crate::{Dialect, Value};

type Entry<'a> = (&'a String, &'a Value);

/// Byte order is natural order for most maps. Where it is not, a merge sort: go-yaml's order of keys is no total order
/// for every set of keys, which the library's sort does not accept.
pub(crate) fn sort(entries: &mut [Entry<'_>], dialect: Dialect) {
    if entries.windows(2).all(|pair| natural(pair[0].0, pair[1].0, dialect) != Ordering::Greater) {
        return;
    }
    let middle = entries.len() / 2;
    let (left, right) = entries.split_at_mut(middle);
    sort(left, dialect);
    sort(right, dialect);
    let mut merged = Vec::with_capacity(entries.len());
    let (left, right) = entries.split_at(middle);
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if natural(right[j].0, left[i].0, dialect) == Ordering::Less {
            merged.push(right[j]);
            j += 1;
        } else {
            merged.push(left[i]);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    entries.copy_from_slice(&merged);
}

/// Letters after all else (in version 3 before it, behind digits), runs of digits by their number.
fn natural(a: &str, b: &str, dialect: Dialect) -> Ordering {
    let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = x.iter().zip(&y).position(|(c, d)| c != d) else { return x.len().cmp(&y.len()) };
    let (c, d) = (x[i], y[i]);
    let letters_first = dialect == Dialect::V3 && i > 0 && x[i - 1].is_ascii_digit();
    match (c.is_alphabetic(), d.is_alphabetic()) {
        (true, true) => return c.cmp(&d),
        (false, false) => {}
        (left, _) => return if left == letters_first { Ordering::Less } else { Ordering::Greater },
    }
    let digits = |text: &[char]| text[i..].iter().take_while(|c| c.is_ascii_digit()).count();
    let carry = (c == '0' || d == '0') && x[..i].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |text: &[char], count: usize| {
        text[i..i + count]
            .iter()
            .fold(i64::from(carry), |n, c| n.wrapping_mul(10).wrapping_add(i64::from(*c as u32) - i64::from(b'0')))
    };
    let (m, n) = (digits(&x), digits(&y));
    number(&x, m).cmp(&number(&y, n)).then(m.cmp(&n)).then(c.cmp(&d))
}
