//go:build never

// Package helm names what the build makes: upstream's own command, by import path.
// Never compiled; it keeps the command in go.mod and go.sum.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
