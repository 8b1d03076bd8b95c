package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/visible"
)

func auditVerify() *cobra.Command {
	var key string
	var known, witnesses []string
	cmd := &cobra.Command{
		Use:   "verify [--key KEY] [FILE...]",
		Short: "Check that nothing in the log was changed, removed or reordered",
		Long: `Without FILE, checks the log of this installation: its chain, its end against the
store, its lines against the last checkpoint, what witnesses have cosigned, and the
files of the configuration that checkpoints are kept in.

With FILE, checks these files and needs nothing else: a log, checkpoints of it,
receipts of its entries, in any order; a file of checkpoints may have many, as a
witness keeps them. Checkpoints and receipts need --key, the log's public key or a file
that has it (openleash audit key prints it). With --witness, that witness must have
cosigned one of them. The more checkpoints you have kept, the more is found: a log whose
end was cut off, or that was written anew, shows only against somebody who knew it before.

Exit code 0: all is as it should be; 1: faults, each with its place.`,
		Example: "  openleash audit verify --key audit.pub audit.log.jsonl kept.checkpoint",
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) > 0 {
				return verifyFiles(cmd, files, key, known, witnesses)
			}
			if len(witnesses) > 0 {
				return errors.New("--witness goes with files: audit.log.cosigned, say, beside the log")
			}
			return withApp(cmd, func(a *app) error { return a.verifyLog(cmd) })
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the log's public key, or a file that has it")
	cmd.Flags().StringArrayVar(&known, "known", nil, "a file with what you know of the log for sure: the three lines \"log\" of a proof, a refusal or an approval")
	cmd.Flags().StringArrayVar(&witnesses, "witness", nil, "the public key of a witness, or a file that has it: it must have cosigned one of the checkpoints")
	return cmd
}

// verifyLog verifies what this installation has.
func (a *app) verifyLog(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if err := a.caughtUp(ctx); err != nil {
		return err
	}
	seq, hash, err := a.completed(ctx)
	if err != nil {
		return err
	}
	v := verifier{out: cmd.OutOrStdout(), key: a.logKey.Public()}
	if seq > 0 {
		a.markedBy(ctx, seq)
		v.checkpoint(audit.CheckpointFile(a.home.AuditLog()))
	}
	for _, file := range append(a.config.witnessFiles(), audit.CosignedFile(a.home.AuditLog())) {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			v.checkpoint(file)
		}
	}
	if err := v.log(a.home.AuditLog(), seq, "sha256:"+hex.EncodeToString(hash[:])); err != nil {
		return err
	}
	return v.end()
}

// verifyFiles verifies what somebody else has brought.
func verifyFiles(cmd *cobra.Command, files []string, key string, known, witnesses []string) (err error) {
	v := verifier{out: cmd.OutOrStdout()}
	if v.key, err = readPublicKey(key); err != nil {
		return err
	}
	if err := v.demand(witnesses); err != nil {
		return err
	}
	for _, file := range known {
		if err := v.trust(file); err != nil {
			return err
		}
	}
	log := ""
	for _, file := range files {
		kind, err := kindOf(file)
		switch {
		case err != nil:
			return err
		case kind == aLog && log != "":
			return fmt.Errorf("%s and %s are both logs: want one at a time", log, file)
		case kind == aLog:
			log = file
		case v.key == "":
			return fmt.Errorf("%s is a %s: want --key, the public key of its log", file, kind)
		case kind == aReceipt:
			v.receipt(file)
		default:
			v.checkpoint(file)
		}
	}
	if log != "" {
		if err := v.log(log, 0, ""); err != nil {
			return err
		}
	}
	return v.end()
}

// readPublicKey returns the key that --key is, or that is in the file of that name.
func readPublicKey(key string) (string, error) {
	text, err := readSome(key, 4<<10)
	switch {
	case key == "" || errors.Is(err, fs.ErrNotExist):
		return key, nil
	case err != nil:
		return "", fmt.Errorf("reading the key: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

type kind string

const (
	aLog        kind = "log"
	aReceipt    kind = "receipt"
	aCheckpoint kind = "checkpoint"
)

// kindOf tells by its beginning what a file is.
func kindOf(file string) (kind, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head, err := bufio.NewReader(f).Peek(len(audit.ReceiptHead))
	switch {
	case err != nil && err != io.EOF:
		return "", fmt.Errorf("reading %s: %w", file, err)
	case string(head) == audit.ReceiptHead:
		return aReceipt, nil
	case len(head) == 0 || head[0] == '{':
		return aLog, nil
	}
	return aCheckpoint, nil
}

// A verifier checks one file after the other.
type verifier struct {
	out    io.Writer
	key    string
	known  []audit.Checkpoint // that the log has to agree with
	wanted []*cosigner
	faults int
}

func (v *verifier) fault(file, reason string) {
	v.faults++
	fmt.Fprintf(v.out, "%s: %s\n", file, visible.Line(reason))
}

func (v *verifier) checkpoint(file string) {
	text, err := readSome(file, maxKept)
	if err != nil {
		v.fault(file, err.Error())
		return
	}
	pieces := audit.SplitKept(text)
	if len(pieces) == 0 {
		pieces = []audit.Kept{{}} // an empty file is no checkpoint
	}
	var of []audit.Checkpoint
	for _, piece := range pieces {
		c, err := audit.OpenCheckpoint(piece.Signed, v.key)
		switch {
		case err == nil:
			of = append(of, c)
			v.cosigned(fmt.Sprintf("%s:%d", file, max(piece.Line, 1)), piece.Signed, c)
		case len(pieces) > 1:
			v.fault(fmt.Sprintf("%s:%d", file, piece.Line), err.Error())
		default:
			v.fault(file, err.Error())
		}
	}
	v.known = append(v.known, of...)
	v.tell(file, of)
}

// maxKept bounds a file of checkpoints; one a minute for a year has 130 MB.
const maxKept = 256 << 20

// tell says what a file knows.
func (v *verifier) tell(file string, of []audit.Checkpoint) {
	switch n := len(of); n {
	case 0:
	case 1:
		fmt.Fprintf(v.out, "%s: a checkpoint of %s, of its first %d entries\n", file, of[0].Origin, of[0].Size)
	default:
		fmt.Fprintf(v.out, "%s: %d checkpoints of %s, the last of its first %d entries\n", file, n, of[0].Origin, of[n-1].Size)
	}
}

// trust takes what nobody has signed: the user says that it is so.
func (v *verifier) trust(file string) error {
	var c audit.Checkpoint
	text, err := readSome(file, 4<<10)
	if err == nil {
		c, err = audit.ParseCheckpoint(strings.TrimRight(string(text), "\r\n") + "\n")
	}
	if err != nil {
		return fmt.Errorf("--known %s: %w", file, err)
	}
	v.known = append(v.known, c)
	fmt.Fprintf(v.out, "%s: what you know of %s, of its first %d entries\n", file, visible.Line(c.Origin), c.Size)
	return nil
}

func (v *verifier) receipt(file string) {
	text, err := readSome(file, 32<<20)
	if err == nil {
		var r audit.Receipt
		if r, err = audit.OpenReceipt(text, v.key); err == nil {
			v.known = append(v.known, r.Checkpoint)
			v.cosigned(file, r.Signed, r.Checkpoint)
			fmt.Fprintf(v.out, "%s: entry %d is in the log %s:\n%s\n", file, r.Seq, r.Checkpoint.Origin, visible.JSONText(string(r.Line)))
			return
		}
	}
	v.fault(file, err.Error())
}

// log verifies a log, up to an end that is known, or 0 and "".
func (v *verifier) log(file string, seq uint64, hash string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	report, err := audit.Verify(f, seq, hash, v.known...)
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	for _, fault := range report.Faults {
		v.fault(fmt.Sprintf("%s:%d", file, fault.Line), fault.Reason)
	}
	if len(report.Faults) > 0 {
		return nil
	}
	fmt.Fprintf(v.out, "ok: %d entries, unbroken; head %s\n", report.Entries, report.Head)
	if len(v.known) == 0 && report.Entries > 0 {
		fmt.Fprintln(v.out, "No checkpoint was given: whether the end was cut off, or the log was written anew, is not known.")
	}
	return nil
}

func (v *verifier) end() error {
	for _, w := range v.wanted {
		w.tell(v)
	}
	if v.faults > 0 {
		fmt.Fprintf(v.out, "FAULTS: %d\n", v.faults)
		return exitCode(1)
	}
	return nil
}

// readSome reads a file up to a size.
func readSome(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("want at most %d bytes, it has more", most)
	}
	return text, err
}

// markedBy waits until the last checkpoint is of so many entries, for some seconds.
func (a *app) markedBy(ctx context.Context, seq uint64) (signed []byte, err error) {
	file := audit.CheckpointFile(a.home.AuditLog())
	for range 200 {
		if signed, err = os.ReadFile(file); err == nil {
			c, bad := audit.OpenCheckpoint(signed, a.logKey.Public())
			if bad != nil || c.Size >= seq {
				return signed, bad
			}
		}
		if fault := a.sequencer.Err(); fault != nil {
			return nil, fault
		}
		a.sequencer.Wake()
		wait(ctx)
	}
	return nil, errors.Join(err, fmt.Errorf("%s is more than 4 seconds behind the log; see what the running openleash logs", file))
}
