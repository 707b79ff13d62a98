// SPDX-License-Identifier: MIT OR Apache-2.0

//go:build tools

// Package tools keeps consul-template in go.mod; it is built by its import path.
package tools

import _ "github.com/hashicorp/consul-template"
