//! `skaffold.yaml` of every published version, read into one model.
