// Conformance runs the official MCP conformance suite against an upstream
// server directly and through OpenLeash, and tells what differs: the measure of
// the proxy's first promise, that a host cannot tell the proxied server from the
// server itself.
//
//	conformance/run              everything, three minutes
//	conformance/run -only connect  the ways whose name contains that
//
// The suite and Node are those of e2e/package-lock.json, the reference server
// and client those of go.mod.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := flag.String("only", "", "run only the ways whose name contains `TEXT`")
	keep := flag.String("keep", "", "keep what the suite writes in `FOLDER`")
	flag.Parse()
	if flag.Arg(0) == clientCommand {
		os.Exit(client(ctx, flag.Args()[1:]))
	}
	if flag.Arg(0) == loginCommand {
		os.Exit(login(ctx, flag.Args()[1:]))
	}
	os.Exit(run(ctx, *only, *keep))
}

func run(ctx context.Context, only, keep string) int {
	l, err := newLab(ctx, keep)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	defer l.close()
	worse, err := l.compareAll(only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	if worse > 0 {
		fmt.Printf("\n%d checks fail that must pass\n", worse)
		return 1
	}
	fmt.Println("\nok: what passes directly passes through OpenLeash, and what a login must be it is")
	return 0
}
