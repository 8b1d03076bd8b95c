package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
)

// asOwner is withApp for what the owner does: who has a second factor shows it.
func asOwner(cmd *cobra.Command, do func(*app) error) error {
	return withApp(cmd, func(a *app) error {
		if _, err := a.confirm(cmd); err != nil {
			return err
		}
		return do(a)
	})
}

// confirm asks for the owner's second factor, when there is one, and says by which
// method it was shown; empty: there is none. The code comes from the terminal, or from
// standard input where that is none: never from an argument, which others can read.
func (a *app) confirm(cmd *cobra.Command) (method string, err error) {
	on, err := a.owners.Factors.Enrolled(cmd.Context(), a.owner.ID)
	if err != nil || !on {
		return "", err
	}
	code, err := askCode(cmd.InOrStdin(), cmd.ErrOrStderr())
	if err != nil {
		return "", err
	}
	if method, err = a.owners.Factors.Verify(cmd.Context(), a.owner.ID, code); err != nil {
		return "", a.refusedHere(err)
	}
	return method, a.service.Record(cmd.Context(), audit.Entry{
		Event: "owner.factor", ActorType: "owner", ActorID: cliActor(), OwnerID: a.owner.ID, Detail: "shown by " + method + " for " + cmd.CommandPath(),
	})
}

// refusedHere records that somebody was not let in by the command line, and says what to
// do.
func (a *app) refusedHere(err error) error {
	why, told := a.owners.Refusal(err)
	if !told {
		return err
	}
	if e := a.service.Refused(authz.Access{Door: "cli", Code: why.Code, Why: why.Why, From: "this machine"}); e != nil {
		return errors.Join(err, e)
	}
	if errors.Is(err, identity.ErrFactorRequired) {
		return withHint(err, "type it when you are asked, or give it on standard input; it is never an argument")
	}
	return err
}

// maxCodeLine bounds what is read as a code.
const maxCodeLine = 256

func askCode(in io.Reader, prompt io.Writer) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(prompt, "Code of your second factor, or a backup code: ")
	} else {
		fmt.Fprintln(prompt, "openleash: reading the code of your second factor from standard input")
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxCodeLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the code: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// toTerminal prints a secret where a person is looking: on standard output when that is
// a terminal, else on the terminal itself, and nowhere else.
func toTerminal(cmd *cobra.Command, text string) error {
	if f, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		_, err := fmt.Fprintln(f, text)
		return err
	}
	tty, err := openTerminal()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(tty, text)
	return errors.Join(err, tty.Close())
}

// onTerminal says when there is none for toTerminal.
func onTerminal(cmd *cobra.Command) error {
	if f, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil
	}
	tty, err := openTerminal()
	if err != nil {
		return err
	}
	return tty.Close()
}

// openTerminal opens the terminal that the program was started from.
func openTerminal() (*os.File, error) {
	name := "/dev/tty"
	if runtime.GOOS == "windows" {
		name = "CONOUT$"
	}
	tty, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return nil, withHint(errors.New("there is no terminal, and a link is printed to nothing else"), "run it in a terminal of your own")
	}
	return tty, nil
}
