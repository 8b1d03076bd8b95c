package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/passkey"
)

func passkeysCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "passkeys",
		Short: "List your passkeys, with what an auditor keeps of each",
		Long: `Lists your passkeys. The line of three words below each is its public key: who keeps
it can tell years later, with openleash audit verify-passkey, whether it was you who
approved an action. Passkeys are added and removed in the portal (openleash open).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withApp(cmd, func(a *app) error { return a.listPasskeys(cmd, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one array")
	return cmd
}

// passkeyView is a passkey as `passkeys --json` shows it.
type passkeyView struct {
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	UsedAt    *time.Time `json:"used_at,omitempty"`
	Pinned    string     `json:"pinned"`
}

func (a *app) listPasskeys(cmd *cobra.Command, asJSON bool) error {
	list, err := a.owners.Passkeys(cmd.Context(), a.owner.ID)
	if err != nil {
		return err
	}
	views := []passkeyView{}
	for _, k := range list {
		pinned, err := passkey.Pin(k)
		if err != nil {
			return err
		}
		v := passkeyView{Name: k.Name, CreatedAt: k.CreatedAt, Pinned: pinned.String()}
		if !k.UsedAt.IsZero() {
			v.UsedAt = &k.UsedAt
		}
		views = append(views, v)
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), views)
	}
	if len(views) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "You have no passkeys.")
	}
	for _, v := range views {
		fmt.Fprintf(cmd.OutOrStdout(), "%s, added %s\n%s\n", visible.Line(v.Name), v.CreatedAt.Local().Format(time.DateTime), v.Pinned)
	}
	return nil
}

func auditVerifyPasskey() *cobra.Command {
	var pin, key string
	cmd := &cobra.Command{
		Use:   "verify-passkey --passkey PINNED [--key KEY] FILE",
		Short: "Verify that a pinned passkey has approved what the log says it has",
		Long: `Says yes or no, offline: did the owner of the pinned passkey approve this action? FILE has
lines of the log, or is a receipt (openleash audit prove); - is standard input. PINNED is a
file that has the line which openleash passkeys prints, kept since before the approval.

Each line approval.approved that this passkey is said to have signed is verified: that it
was signed for this request and this action hash, by this key, with the user verified.
That the lines themselves are the log's, openleash audit verify says; of a receipt, --key
does. docs/audit.md has the exact bytes. Exit code 1: no.`,
		Example: "  openleash audit verify-passkey --passkey ann.passkey audit.log.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pinned, err := readPinned(pin)
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			lines, err := linesOf(in, key)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return verifyApprovals(cmd.OutOrStdout(), args[0], lines, pinned)
		},
	}
	cmd.Flags().StringVar(&pin, "passkey", "", "a file with the pinned passkey (required)")
	cmd.Flags().StringVar(&key, "key", "", "the log's public key, or a file that has it, for a receipt (openleash audit key)")
	return cmd
}

func readPinned(file string) (p passkey.Pinned, err error) {
	if file == "" {
		return p, errors.New("--passkey: want a file with the line that openleash passkeys has printed")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return p, fmt.Errorf("--passkey: %w", err)
	}
	if p, err = passkey.ParsePinned(string(text)); err != nil {
		err = fmt.Errorf("--passkey %s: %w", file, err)
	}
	return p, err
}

// maxReceiptBytes is more than any receipt has.
const maxReceiptBytes = 32 << 20

// linesOf is what is to be read of a log, or the line of which a receipt is.
func linesOf(in io.Reader, key string) (io.Reader, error) {
	r := bufio.NewReader(in)
	if head, _ := r.Peek(len(audit.ReceiptHead)); string(head) != audit.ReceiptHead {
		return r, nil
	}
	if key == "" {
		return nil, errors.New("it is a receipt: give the log's public key by --key")
	}
	key, err := readPublicKey(key)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxReceiptBytes))
	if err != nil {
		return nil, err
	}
	receipt, err := audit.OpenReceipt(text, key)
	return bytes.NewReader(receipt.Line), err
}

// errNotApproved is exit code 1: what is wrong was printed.
var errNotApproved = errors.New("the pinned passkey has not approved this")

func verifyApprovals(out io.Writer, file string, in io.Reader, pinned passkey.Pinned) error {
	yes, no := 0, 0
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLogLine)
	t := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	for n := 1; lines.Scan(); n++ {
		e, signed, err := approvalLine(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if signed == nil || !bytes.Equal(signed.CredentialID, pinned.CredentialID) {
			continue
		}
		what := fmt.Sprintf("%s:%d: request %s, action %s, agent %s", file, n, visible.Line(e.ApprovalID), visible.Line(e.ActionHash), visible.Line(e.AgentID))
		if err := verifyApproval(e, *signed, pinned); err != nil {
			no++
			fmt.Fprintf(t, "no\t%s: %v\n", what, err)
			continue
		}
		yes++
		fmt.Fprintf(t, "yes\t%s\n", what)
	}
	if err := errors.Join(lines.Err(), t.Flush()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	switch {
	case no > 0:
		return errNotApproved
	case yes == 0:
		return fmt.Errorf("%s: %w: no line approval.approved names it", file, errNotApproved)
	}
	return nil
}

// maxLogLine is the longest line of a log.
const maxLogLine = 16 << 20

// approvalLine reads a line of the log. signed is nil when it is no approval by a passkey.
func approvalLine(line []byte) (e audit.Entry, signed *approvals.Assertion, err error) {
	if !bytes.Contains(line, []byte(`"approval.approved"`)) {
		return e, nil, nil
	}
	if _, err := action.Parse(line, action.Limits{Bytes: maxLogLine}); err != nil { // read one way only
		return e, nil, fmt.Errorf("want a line of the log: %w", err)
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, nil, fmt.Errorf("want a line of the log: %w", err)
	}
	if p := e.Passkey; p != nil && e.Event == "approval.approved" {
		signed = &approvals.Assertion{CredentialID: p.CredentialID, AuthenticatorData: p.AuthenticatorData, ClientData: p.ClientData, Signature: p.Signature}
	}
	return e, signed, nil
}

func verifyApproval(e audit.Entry, signed approvals.Assertion, pinned passkey.Pinned) error {
	hash, err := action.ParseHash(e.ActionHash)
	if err != nil {
		return err
	}
	return pinned.Verify(e.ApprovalID, hash, signed)
}
