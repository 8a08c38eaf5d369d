//! Printing a node as go-yaml v3 does, with kyaml's settings: two spaces, lists at the indentation of their key.

use crate::{Dialect, Kind, Node, Style, emit::Emitter, resolve};

/// How a tree is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Spaces of one level.
    pub indent: usize,
    /// Lists stand at the indentation of their key.
    pub compact: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { indent: 2, compact: true }
    }
}

/// The text of a tree: styles, comments, tags and anchors are kept.
pub fn print(node: &Node, layout: &Layout) -> String {
    let mut printer = Printer { to: Emitter::v3(layout.indent), compact: layout.compact };
    printer.node(node, false, false, false);
    printer.foot(node);
    if printer.to.column > 0 {
        printer.to.put_break();
    }
    printer.to.out
}

struct Printer {
    to: Emitter,
    compact: bool,
}

impl Printer {
    /// The indentation inside a node: behind the dash in a list, else the next step.
    fn deeper(&self, in_list: bool) -> isize {
        let (indent, step) = (self.to.indent, self.to.step().max(1));
        if indent < 0 {
            0
        } else if in_list {
            indent + 2
        } else {
            step * ((indent + step) / step)
        }
    }

    fn head(&mut self, node: &Node) {
        if let Some(comments) = node.comments.as_deref().filter(|comments| !comments.head.is_empty()) {
            self.lines(&comments.head);
        }
    }

    fn foot(&mut self, node: &Node) {
        if let Some(comments) = node.comments.as_deref().filter(|comments| !comments.foot.is_empty()) {
            self.lines(&comments.foot);
        }
    }

    fn lines(&mut self, text: &str) {
        for line in text.lines() {
            self.to.write_indent();
            self.to.out.push_str(line);
            self.to.column += line.chars().count();
            self.to.whitespace = false;
            self.to.indention = false;
        }
    }

    fn tail(&mut self, node: &Node) {
        if let Some(comments) = node.comments.as_deref().filter(|comments| !comments.line.is_empty()) {
            if !self.to.whitespace || self.to.column > 0 {
                self.to.out.push(' ');
            }
            self.to.out.push_str(&comments.line);
            self.to.column += comments.line.chars().count() + 1;
            self.to.whitespace = false;
            self.to.indention = false;
        }
    }

    fn node(&mut self, node: &Node, in_map: bool, in_list: bool, key: bool) {
        if let Some(anchor) = &node.anchor {
            self.to.indicator(&format!("&{anchor}"), true, false, false);
        }
        match &node.kind {
            Kind::Alias(name) => self.to.indicator(&format!("*{name}"), true, false, false),
            Kind::Scalar(text) => self.scalar(node, text, in_list, key),
            Kind::List(items) => {
                self.tag(node, "!!seq");
                if node.style == Style::Flow || items.is_empty() || self.to.flow > 0 {
                    self.flow_list(items, in_list);
                    self.tail(node);
                } else {
                    self.list(items, in_map, in_list);
                }
            }
            Kind::Map(entries) => {
                self.tag(node, "!!map");
                if node.style == Style::Flow || entries.is_empty() || self.to.flow > 0 {
                    self.flow_map(entries, in_list);
                    self.tail(node);
                } else {
                    self.map(entries, in_list);
                }
            }
        }
    }

    fn tag(&mut self, node: &Node, natural: &str) {
        if let Some(tag) = node.tag.as_deref().filter(|tag| *tag != natural && *tag != "!") {
            self.to.indicator(tag, true, false, false);
        }
    }

    fn scalar(&mut self, node: &Node, text: &str, in_list: bool, key: bool) {
        let mut style = node.style;
        let read = node.start.line != 0;
        match node.tag.as_deref() {
            None | Some("!") => {}
            Some("!!str") if !read => {
                if style == Style::Plain && resolve(text, Dialect::V3).tag() != "!!str" {
                    style = Style::DoubleQuoted;
                }
            }
            Some(tag) if !read && resolve(text, Dialect::V3).tag() == tag => {}
            Some(tag) => self.to.indicator(tag, true, false, false),
        }
        if style == Style::Plain && text.contains('\n') {
            style = Style::Literal;
        }
        let deeper = self.deeper(in_list);
        self.to.scalar(text, style, key, deeper);
        if !key && !matches!(style, Style::Literal | Style::Folded) {
            self.tail(node);
        }
    }

    fn list(&mut self, items: &[Node], in_map: bool, in_list: bool) {
        let outer = self.to.indent;
        let compact = self.compact && in_map && (self.to.column == 0 || !self.to.indention);
        self.to.indent = self.deeper(in_list);
        if compact && outer >= 0 {
            self.to.indent -= 2;
        }
        for item in items {
            self.head(item);
            self.to.write_indent();
            self.to.indicator("-", true, false, true);
            self.node(item, false, true, false);
            self.foot(item);
        }
        self.to.indent = outer;
    }

    fn map(&mut self, entries: &[(Node, Node)], in_list: bool) {
        let outer = self.to.indent;
        self.to.indent = self.deeper(in_list);
        for (key, value) in entries {
            self.head(key);
            self.to.write_indent();
            if key.as_scalar().is_none_or(Emitter::simple_key) {
                self.node(key, false, false, true);
                self.to.indicator(":", false, false, false);
            } else {
                self.to.indicator("?", true, false, true);
                self.node(key, true, false, false);
                self.to.write_indent();
                self.to.indicator(":", true, false, true);
            }
            if matches!(value.kind, Kind::List(_) | Kind::Map(_)) {
                self.tail(key);
            }
            self.node(value, true, false, false);
            self.foot(key);
        }
        self.to.indent = outer;
    }

    fn flow_list(&mut self, items: &[Node], in_list: bool) {
        let outer = self.open("[", in_list);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.to.indicator(",", false, false, false);
            }
            self.node(item, false, false, false);
        }
        self.close("]", outer);
    }

    fn flow_map(&mut self, entries: &[(Node, Node)], in_list: bool) {
        let outer = self.open("{", in_list);
        for (i, (key, value)) in entries.iter().enumerate() {
            if i > 0 {
                self.to.indicator(",", false, false, false);
            }
            self.node(key, true, false, true);
            self.to.indicator(":", false, false, false);
            self.node(value, true, false, false);
        }
        self.close("}", outer);
    }

    fn open(&mut self, bracket: &str, in_list: bool) -> isize {
        self.to.indicator(bracket, true, true, false);
        let outer = self.to.indent;
        self.to.indent = if outer < 0 { self.to.step() } else { self.deeper(in_list) };
        self.to.flow += 1;
        outer
    }

    fn close(&mut self, bracket: &str, outer: isize) {
        self.to.flow -= 1;
        self.to.indent = outer;
        self.to.indicator(bracket, false, false, false);
    }
}
