package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
)

// codeFor asks for the code of the second factor, if its owner has one. It is verified
// with the yes that it is for, so that it can meet a step-up.
func (a *app) codeFor(cmd *cobra.Command, r approvals.Request) (string, error) {
	able, err := a.service.CanStepUp(cmd.Context(), r.OwnerID)
	if err != nil || !able {
		return "", err // of what takes one, the service says so
	}
	code, err := askCode(cmd.InOrStdin(), cmd.ErrOrStderr())
	if err == nil && code == "" {
		err = a.refusedHere(identity.ErrFactorRequired)
	}
	return code, err
}

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
