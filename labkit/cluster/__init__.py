"""The Kubernetes control plane of a lab: real etcd, API server and controllers."""
