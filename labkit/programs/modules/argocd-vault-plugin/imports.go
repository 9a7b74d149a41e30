//go:build never

// Package argocdvaultplugin names what the build makes: upstream's own command, by import
// path.  Never compiled; it keeps the command in go.mod and go.sum.
package argocdvaultplugin

import _ "github.com/argoproj-labs/argocd-vault-plugin"
