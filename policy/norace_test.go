//go:build !race

package policy

const mostRules = 10_000
