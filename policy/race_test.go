//go:build race

package policy

// mostRules is less than it is without the race detector, which is slow.
const mostRules = 1000
