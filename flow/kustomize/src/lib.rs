//! Kustomizations, built as `kustomize build` builds them.
