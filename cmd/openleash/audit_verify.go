package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
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

With FILE, checks these files and needs nothing else: a log with all its segments,
checkpoints of it, receipts of its entries, the stump of what was removed, in any
order; a file of checkpoints may have many, as a witness keeps them. All but the log
need --key, the log's public key or a file that has it (openleash audit key prints it).
With --witness, that witness must have cosigned one of them. The more checkpoints you have
kept, the more is found: a log whose end was cut off, or that was written anew, shows
only against somebody who knew it before.

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
	if err := v.own(a.home.AuditLog(), seq, "sha256:"+hex.EncodeToString(hash[:])); err != nil {
		return err
	}
	return v.end()
}

// own verifies a log where it lies, with its segments. One that is closed meanwhile is
// looked for again.
func (v *verifier) own(log string, seq uint64, hash string) error {
	if stump := audit.StumpFile(log); exists(stump) {
		v.stump(stump)
	}
	for range 3 {
		files, err := audit.Files(log)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			files = []string{log} // which is missing
		}
		report, err := audit.VerifyFiles(files, v.stumps, seq, hash, v.known...)
		if now, _ := audit.Files(log); !slices.Equal(files, now) && len(now) > 0 {
			continue
		}
		if err == nil {
			v.report(files, report)
		}
		return err
	}
	return fmt.Errorf("the segments of %s change faster than they can be read: try again", log)
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
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
	logs, err := v.sort(files)
	if err != nil {
		return err
	}
	if len(logs) > 0 {
		if err := v.log(logs, 0, ""); err != nil {
			return err
		}
	}
	return v.end()
}

// sort takes all files but those that are logs, which it returns.
func (v *verifier) sort(files []string) (logs []string, err error) {
	for _, file := range files {
		kind, err := kindOf(file)
		switch {
		case err != nil:
			return nil, err
		case kind == aLog:
			logs = append(logs, file)
		case v.key == "":
			return nil, fmt.Errorf("%s is a %s: want --key, the public key of its log", file, kind)
		case kind == aReceipt:
			v.receipt(file)
		case kind == aStump:
			v.stump(file)
		default:
			v.checkpoint(file)
		}
	}
	return logs, nil
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
	aStump      kind = "stump"
)

// kindOf tells by its beginning what a file is.
func kindOf(file string) (kind, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head, err := bufio.NewReader(f).Peek(max(len(audit.ReceiptHead), len(audit.StumpHead)))
	switch {
	case err != nil && err != io.EOF:
		return "", fmt.Errorf("reading %s: %w", file, err)
	case strings.HasPrefix(string(head), audit.ReceiptHead):
		return aReceipt, nil
	case strings.HasPrefix(string(head), audit.StumpHead):
		return aStump, nil
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
	stumps []audit.Stump
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

func (v *verifier) stump(file string) {
	text, err := readSome(file, 128<<10)
	if err == nil {
		var s audit.Stump
		if s, err = audit.OpenStump(text, v.key); err == nil {
			v.stumps = append(v.stumps, s)
			fmt.Fprintf(v.out, "%s: the stump of the first %d entries of %s, which were removed\n", file, s.Checkpoint.Size, s.Checkpoint.Origin)
			return
		}
	}
	v.fault(file, err.Error())
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
func (v *verifier) log(files []string, seq uint64, hash string) error {
	report, err := audit.VerifyFiles(files, v.stumps, seq, hash, v.known...)
	if err != nil {
		return err
	}
	v.report(files, report)
	return nil
}

func (v *verifier) report(files []string, report audit.Report) {
	for _, fault := range report.Faults {
		v.fault(fmt.Sprintf("%s:%d", cmp.Or(fault.File, files[0]), fault.Line), fault.Reason)
	}
	if len(report.Faults) > 0 {
		return
	}
	fmt.Fprintf(v.out, "ok: %d entries%s, unbroken; head %s\n", report.Entries, v.scope(files, report), report.Head)
	if len(v.known) == 0 && len(v.stumps) == 0 && report.Entries > 0 {
		fmt.Fprintln(v.out, "No checkpoint was given: whether the end was cut off, or the log was written anew, is not known.")
	}
	older := 0
	for _, c := range v.known {
		if c.Size < report.Removed {
			older++
		}
	}
	if older > 0 {
		fmt.Fprintf(v.out, "%s could not be compared, being of fewer entries than the %d that were removed.\n", count(older, "checkpoint"), report.Removed)
	}
}

// scope says where the entries were, if that is more than one file.
func (v *verifier) scope(files []string, r audit.Report) string {
	words := ""
	if r.Removed > 0 {
		words = fmt.Sprintf(", from %d on", r.Removed+1)
	}
	if len(files) > 1 {
		words += fmt.Sprintf(", in %d files", len(files))
	}
	return words
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
