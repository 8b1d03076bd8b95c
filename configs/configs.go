// Package configs holds the files that ship inside the program: policies to
// start from (policies/NAME.yaml, each with its suite NAME_test.yaml beside it),
// stories that they are told with (scenarios/*.yaml), and what is known about
// popular MCP servers (profiles/*.yaml). Each of them is loaded, and decided on, by
// a test.
package configs

import "embed"

// FS holds policies/*.yaml, scenarios/*.yaml and profiles/*.yaml.
//
//go:embed config.yaml policies/*.yaml scenarios/*.yaml profiles/*.yaml
var FS embed.FS
