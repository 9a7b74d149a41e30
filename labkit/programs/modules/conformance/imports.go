//go:build never

// Package conformance names what the conformance run is built from: upstream's own
// two packages, by import path.  Never compiled; it keeps them in go.mod and go.sum.
package conformance

import (
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
)
