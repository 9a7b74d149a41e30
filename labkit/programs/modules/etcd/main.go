// etcd and etcdutl as one binary; the role is the name that it was started by.
//
// etcdutl restores the golden snapshot, which needs almost all of etcd's own code,
// so one link step and one file serve both.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "etcdutl":
		if etcdutlCommand(name).Execute() != nil {
			os.Exit(1) // cobra has printed the error
		}
	default:
		fmt.Fprintf(os.Stderr, "%s: start me as etcd or etcdutl\n", name)
		os.Exit(2)
	}
}

// etcdutlCommand offers the commands that a lab needs: snapshots, and what it is.
func etcdutlCommand(name string) *cobra.Command {
	root := &cobra.Command{Use: name, Short: "Work on an etcd data directory offline"}
	root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple",
		"output format: fields, json, protobuf, simple or table")
	root.AddCommand(etcdutl.NewSnapshotCommand(), etcdutl.NewVersionCommand())
	return root
}
