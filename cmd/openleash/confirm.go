package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/openleash/openleash-go/approvals"
)

// codeFor asks for the code of the second factor, if a yes to r takes one and its owner
// has one: at the terminal, where it is not shown, else it is the first line of the input.
// It is never an argument: other processes see those.
func (a *app) codeFor(cmd *cobra.Command, r approvals.Request) (string, error) {
	if !r.Needs.StepUp {
		return "", nil
	}
	if able, err := a.service.CanStepUp(cmd.Context(), r.OwnerID); err != nil || !able {
		return "", err // the service says why
	}
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(cmd.ErrOrStderr(), "Code of your second factor: ")
		code, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(code), err
	}
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxCodeLine)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading the code of the second factor from the input: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// maxCodeLine is more than any code has.
const maxCodeLine = 256

// needWords is what a yes takes, in words.
func needWords(needs []string) string {
	var words []string
	for _, n := range needs {
		switch n {
		case "step_up":
			words = append(words, "your second factor")
		case "deposit":
			words = append(words, "the reference of the deposit")
		}
	}
	return strings.Join(words, " and ")
}

// depositFlag is what approve has to be told of a request that wants a deposit.
func depositFlag(r approvals.Request) string {
	if !r.Needs.Deposit {
		return ""
	}
	return " --deposit-reference TEXT"
}
