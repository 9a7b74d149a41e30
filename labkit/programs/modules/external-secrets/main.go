// The External Secrets Operator, as upstream's own main starts it.
package main

import "github.com/external-secrets/external-secrets/cmd/controller"

func main() { controller.Execute() }
