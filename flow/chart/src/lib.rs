//! Helm charts: files in, rendered documents out.
