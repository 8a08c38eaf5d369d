//! What Helm would log on the way: said to whoever asked, never printed here.

use std::cell::RefCell;

/// Collects warnings in their order.
#[derive(Debug, Default)]
pub struct Warnings(RefCell<Vec<String>>);

impl Warnings {
    pub(crate) fn add(&self, text: impl Into<String>) {
        let mut all = self.0.borrow_mut();
        // A loop in a template may repeat one; nobody reads more than a thousand.
        if all.len() < 1000 {
            all.push(text.into());
        }
    }

    /// What was said so far; it is forgotten here.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}
