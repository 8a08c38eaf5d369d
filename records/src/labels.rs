//! What is written onto Kubernetes objects, so that they can be traced back to the records that they came from.

/// The project that an object belongs to: a label of every object and of every pod.
pub const PROJECT: &str = "shipway.dev/project";
/// The environment that an object belongs to: a label of every object and of every pod.
pub const ENVIRONMENT: &str = "shipway.dev/environment";
/// The release that an object was last applied by (`journal/prod/3`): an annotation of every object, but of no pod, since a changed
/// pod template would restart what has not changed.
pub const RELEASE: &str = "shipway.dev/release";
/// The commit of that release: an annotation, as above.
pub const COMMIT: &str = "shipway.dev/commit";
/// The run of that release: an annotation, as above.
pub const RUN: &str = "shipway.dev/run";
