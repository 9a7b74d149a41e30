//go:build never

// Package argocd names what the build makes: upstream's own command, by import path.
// Never compiled; it keeps the command in go.mod and go.sum.
package argocd

import _ "github.com/argoproj/argo-cd/v3/cmd"
