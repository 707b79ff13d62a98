// SPDX-License-Identifier: MIT OR Apache-2.0

// Command etcd runs etcd, unchanged, in the version that Kubernetes requires.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
