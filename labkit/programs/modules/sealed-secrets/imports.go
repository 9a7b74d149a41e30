//go:build never

// Package sealedsecrets names what the builds make: upstream's own two commands, by
// import path.  Never compiled; it keeps the commands in go.mod and go.sum.
package sealedsecrets

import (
	_ "github.com/bitnami/sealed-secrets/cmd/controller"
	_ "github.com/bitnami/sealed-secrets/cmd/kubeseal"
)
