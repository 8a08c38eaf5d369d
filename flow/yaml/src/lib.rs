//! YAML as the Go libraries of the Kubernetes field read and print it.
