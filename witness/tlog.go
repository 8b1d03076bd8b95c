package witness

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/durable"
	"github.com/openleash/openleash-go/internal/filelock"
)

// TLog is a witness as c2sp.org/tlog-witness has it: it verifies that the log has only
// grown since it saw it last, and cosigns the checkpoint. The cosigned checkpoint is kept
// beside the log.
type TLog struct {
	prefix string
	key    string
	by     audit.Cosigner
	file   string // audit.CosignedFile
}

// NewTLog is that of a submission prefix, which CheckURL accepts, and a public key. What
// it cosigns is kept in the file.
func NewTLog(prefix, key, file string) (*TLog, error) {
	by, err := audit.ParseCosigner(key)
	return &TLog{strings.TrimSuffix(prefix, "/"), strings.TrimSpace(key), by, file}, err
}

// Name is that of its key.
func (w *TLog) Name() string { return w.by.Name() }

func (w *TLog) target() string { return "witness " + w.prefix + " " + w.key }

// maxTurns bounds how often it may say that it knows another size than it was told.
const maxTurns = 3

// send submits the checkpoint: "POST <submission prefix>/add-checkpoint". What it knew
// last is a guess; if that is wrong it says what is right.
func (w *TLog) send(ctx context.Context, tip audit.Tip, old uint64) error {
	if old > tip.Size {
		old = 0
	}
	for range maxTurns {
		body, err := submission(tip, old)
		if err != nil {
			return err
		}
		a, err := post(ctx, w.prefix+"/add-checkpoint", nil, body)
		if err != nil {
			return err
		}
		switch a.status {
		case http.StatusOK:
			return w.keep(ctx, tip, a.body)
		case http.StatusConflict:
			knows, err := knownSize(a)
			switch {
			case old == tip.Size && (err != nil || knows == old):
				return fmt.Errorf("it has cosigned another log of this name with %d entries: there are two, and it was shown the other", old)
			case err == nil && knows == old:
				err = fmt.Errorf("it answers 409, and that it knows %d entries, as it was told", old)
			}
			if err != nil {
				return err
			}
			old = knows
		default:
			return refusal(a, tip)
		}
	}
	return fmt.Errorf("%d times in a row it knew another size than it had said", maxTurns)
}

// submission is the body: "an old size line, zero or more consistency proof lines, and an
// empty line, followed by a checkpoint". "The proof MUST be empty if the old size is zero."
func submission(tip audit.Tip, old uint64) ([]byte, error) {
	proof, _, err := tip.Since(old)
	if err != nil {
		return nil, err
	}
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		body = fmt.Appendf(body, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
	}
	return append(append(body, '\n'), tip.Signed...), nil
}

// knownSize reads a conflict: "The response body MUST consist of the tree size of the
// latest cosigned checkpoint in decimal, followed by a newline (U+000A). The response MUST
// have a Content-Type of text/x.tlog.size."
func knownSize(a answer) (uint64, error) {
	kind, _, _ := mime.ParseMediaType(a.kind)
	text, ended := strings.CutSuffix(string(a.body), "\n")
	size, err := strconv.ParseUint(text, 10, 63)
	if kind != "text/x.tlog.size" || !ended || err != nil || strconv.FormatUint(size, 10) != text {
		return 0, fmt.Errorf("it answers 409: want the size that it knows, as text/x.tlog.size, got %.40q, %.40q", a.kind, a.body)
	}
	return size, nil
}

// refusal says what an answer means.
func refusal(a answer, tip audit.Tip) error {
	switch a.status {
	case http.StatusNotFound:
		return fmt.Errorf("it does not know the log %s (404): tell whoever runs it the log's public key (openleash audit key)", tip.Origin)
	case http.StatusForbidden:
		return fmt.Errorf("it knows the log %s with another key (403): tell whoever runs it the public key (openleash audit key)", tip.Origin)
	case http.StatusUnprocessableEntity:
		return errors.New("it does not find that the log has only grown since it saw it last (422)")
	}
	return fmt.Errorf("want its cosignature, got %s", a.came)
}

// keep verifies what it answered and puts it beside the log. Several processes, and
// several witnesses, share that file.
func (w *TLog) keep(ctx context.Context, tip audit.Tip, cosignature []byte) error {
	unlock, err := filelock.LockContext(ctx, w.file+".lock")
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // closing it is all
	before, err := os.ReadFile(w.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading what was cosigned: %w", err)
	}
	text, err := tip.Cosigned(before, cosignature, w.by)
	if err != nil {
		return err
	}
	if err := replace(w.file, text); err != nil {
		return fmt.Errorf("keeping what was cosigned: %w", err)
	}
	return nil
}

// replace puts a text in a file's place, on disk.
func replace(file string, text []byte) error {
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = durable.Replace(file+".new", file)
	}
	if err == nil {
		err = durable.Dir(filepath.Dir(file))
	}
	return err
}
