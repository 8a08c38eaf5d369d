//! Which node a comment belongs to.

use crate::{Comments, Document, Kind, Node, scan::Remark};

/// Gives every comment to the node it stands by: on a line of its own to the entry or item that follows (its head), or,
/// when nothing follows, to the last one before (its foot); behind a value to that value (its line).
pub(crate) fn attach(documents: &mut [Document], remarks: &[Remark<'_>], text: &str) {
    if remarks.is_empty() {
        return;
    }
    let mut rest = remarks;
    let count = documents.len();
    for index in 0..count {
        let until = documents.get(index + 1).map_or(text.len() + 1, |next| next.start.offset);
        let here = rest.partition_point(|remark| remark.at.offset < until);
        let (mine, others) = rest.split_at(here);
        rest = others;
        if let Some(root) = &mut documents[index].root {
            let mut attacher = Attacher { remarks: mine, next: 0 };
            attacher.node(root);
            let foot = attacher.until(usize::MAX, |_| true);
            if !foot.is_empty() {
                let comments = root.comments.get_or_insert_default();
                comments.foot = join(&comments.foot, &foot);
            }
        }
    }
}

fn join(before: &str, after: &str) -> String {
    if before.is_empty() { after.to_owned() } else { format!("{before}\n{after}") }
}

fn comments(node: &mut Node) -> &mut Comments {
    node.comments.get_or_insert_default()
}

struct Attacher<'r> {
    remarks: &'r [Remark<'r>],
    next: usize,
}

impl Attacher<'_> {
    /// The comments before `offset` for which `take` holds, one a line.
    fn until(&mut self, offset: usize, take: impl Fn(&Remark<'_>) -> bool) -> String {
        let mut text = String::new();
        while let Some(remark) = self.remarks.get(self.next).filter(|remark| remark.at.offset < offset && take(remark))
        {
            text = join(&text, remark.text);
            self.next += 1;
        }
        text
    }

    /// A comment behind something that ends on `line`.
    fn tail(&mut self, line: u32) -> String {
        match self.remarks.get(self.next) {
            Some(remark) if remark.at.line == line && !remark.alone => {
                self.next += 1;
                remark.text.to_owned()
            }
            _ => String::new(),
        }
    }

    fn node(&mut self, node: &mut Node) {
        let end = node.end.line;
        match &mut node.kind {
            Kind::Scalar(_) | Kind::Alias(_) => {}
            Kind::List(items) => {
                for item in items.iter_mut() {
                    let head = self.until(item.start.offset, |_| true);
                    if !head.is_empty() {
                        comments(item).head = head;
                    }
                    self.node(item);
                }
                self.feet(items.last_mut());
            }
            Kind::Map(entries) => {
                for (key, value) in entries.iter_mut() {
                    let head = self.until(key.start.offset, |_| true);
                    if !head.is_empty() {
                        comments(key).head = head;
                    }
                    let tail = self.tail(key.end.line);
                    let nested =
                        matches!(value.kind, Kind::List(_) | Kind::Map(_)) && value.start.line > key.start.line;
                    if !tail.is_empty() {
                        comments(if nested { key } else { value }).line = tail;
                    }
                    self.node(value);
                }
                self.feet(entries.last_mut().map(|(key, _)| key));
            }
        }
        let tail = self.tail(end);
        if !tail.is_empty() {
            comments(node).line = tail;
        }
    }

    /// Comments behind the last entry that are indented as deep as it.
    fn feet(&mut self, last: Option<&mut Node>) {
        let Some(last) = last else { return };
        let column = last.start.column;
        let foot = self.until(usize::MAX, |remark| remark.alone && remark.at.column >= column && column > 1);
        if !foot.is_empty() {
            comments(last).foot = foot;
        }
    }
}
