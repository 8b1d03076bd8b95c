package proof

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/jsontext"
)

// ReceiptKey is where a receipt stands in the _meta of a result.
const ReceiptKey = "ai.openleash/receipt"

const (
	receiptPurpose = "receipt"
	// receiptAssertion is the implicit assertion of receipts (PASETO, Version4): whoever
	// verifies a proof has none, so that the signature of one is never that of the other.
	receiptAssertion = "openleash-receipt-v1"
)

// Why a receipt is refused, beside what a proof is refused for.
var (
	ErrNotReceipt = errors.New("the token is not a receipt")
	ErrResult     = errors.New("the receipt is for another result")
)

// A Receipt says what came of one call that was allowed. It is evidence, and allows
// nothing: it has no audience and no end.
type Receipt struct {
	KeyID      string
	At         time.Time // when the result came
	AgentID    string
	OwnerID    string
	DecisionID string
	ActionID   string
	ActionType string
	ActionHash string
	CallHash   string
	ResultHash string // SHA-256 of the result's bytes, without the receipt
	Outcome    string // as in the log: ok, tool_error
	Server     string
	Tool       string
	// The log's latest checkpoint, three lines; empty: there was none yet.
	Log string
}

// SignReceipt issues a receipt; KeyID is set by it.
func (k *Key) SignReceipt(r Receipt) (token string, err error) {
	r.KeyID, r.At = k.ID, milliseconds(r.At)
	claims, err := r.claims()
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return "", fmt.Errorf("signing a receipt: %w", err)
	}
	if token = signToken(k.private, claims, footerOf(k.ID), []byte(receiptAssertion)); len(token) > maxToken {
		return "", fmt.Errorf("signing a receipt: %d bytes, at most %d are verified", len(token), maxToken)
	}
	return token, nil
}

// claims writes the claims as they stand in a token.
func (r Receipt) claims() ([]byte, error) {
	b := []byte(`{"iss":"` + issuer + `","purpose":"` + receiptPurpose + `"`)
	for _, m := range []struct{ head, value string }{
		{`,"kid":`, r.KeyID}, {`,"iat":`, formatTime(r.At)}, {`,"sub":`, r.AgentID}, {`,"agent_id":`, r.AgentID}, {`,"owner_id":`, r.OwnerID},
		{`,"decision_id":`, r.DecisionID}, {`,"action_id":`, r.ActionID}, {`,"action_type":`, r.ActionType}, {`,"action_hash":`, r.ActionHash},
		{`,"call_hash":`, r.CallHash}, {`,"result_hash":`, r.ResultHash}, {`,"outcome":`, r.Outcome},
		{`,"server":`, r.Server}, {`,"tool":`, r.Tool}, {`,"log":`, r.Log},
	} {
		if !utf8.ValidString(m.value) {
			return nil, fmt.Errorf("claim %s is not UTF-8", m.head[1:])
		}
		if m.value != "" {
			b = jsontext.AppendString(append(b, m.head...), m.value)
		}
	}
	return append(b, '}'), nil
}

// check says what every receipt must have.
func (r Receipt) check() error {
	for _, must := range []struct{ name, value string }{
		{"kid", r.KeyID}, {"sub", r.AgentID}, {"decision_id", r.DecisionID}, {"action_id", r.ActionID}, {"action_hash", r.ActionHash},
		{"result_hash", r.ResultHash}, {"outcome", r.Outcome}, {"iat", formatTime(r.At)},
	} {
		if must.value == "" {
			return fmt.Errorf("%w: %s is missing", ErrMalformed, must.name)
		}
	}
	return errors.Join(checkHash("action_hash", r.ActionHash), checkHash("call_hash", r.CallHash), checkHash("result_hash", r.ResultHash))
}

// VerifyReceipt returns what a receipt says, when one of the keys has signed it that is
// not revoked. Whether it is of the result at hand, VerifyResult tells.
func VerifyReceipt(token string, keys []PublicKey) (Receipt, error) {
	r, err := verifyReceipt(token, keys)
	if err != nil {
		return Receipt{}, fmt.Errorf("verifying the receipt: %w", err)
	}
	return r, nil
}

func verifyReceipt(token string, keys []PublicKey) (r Receipt, err error) {
	payload, footer, err := split(token)
	if err != nil {
		return r, err
	}
	kid, ok := kidOf(footer)
	if !ok {
		return r, fmt.Errorf("%w: the footer is %.80q, want exactly %s", ErrMalformed, footer, footerOf("k4.pid.…"))
	}
	key, err := find(keys, kid)
	if err != nil {
		return r, err
	}
	if err := key.verify(token, []byte(receiptAssertion)); err != nil {
		if key.verify(token, nil) == nil {
			err = fmt.Errorf("%w: it is signed as a proof is", ErrNotReceipt)
		}
		return r, err
	}
	if r, err = parseReceipt(payload); err != nil {
		return Receipt{}, err
	}
	if r.KeyID != key.ID {
		return Receipt{}, fmt.Errorf("%w: the claims name the key %.60q, the footer and the signature are of %s", ErrMalformed, r.KeyID, key.ID)
	}
	return r, r.check()
}

func parseReceipt(payload []byte) (Receipt, error) {
	v, err := action.Parse(payload, action.Limits{Bytes: maxToken})
	if err == nil && v.Kind() != action.Object {
		err = errors.New("want a JSON object")
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	in := reader{v: v}
	r := Receipt{
		KeyID: in.text("kid"), At: in.time("iat"), AgentID: in.text("agent_id"), OwnerID: in.text("owner_id"), DecisionID: in.text("decision_id"),
		ActionID: in.text("action_id"), ActionType: in.text("action_type"), ActionHash: in.text("action_hash"), CallHash: in.text("call_hash"),
		ResultHash: in.text("result_hash"), Outcome: in.text("outcome"), Server: in.text("server"), Tool: in.text("tool"), Log: in.text("log"),
	}
	iss, purpose, sub := in.text("iss"), in.text("purpose"), in.text("sub")
	switch {
	case in.err != nil:
		return Receipt{}, fmt.Errorf("%w: %w", ErrMalformed, in.err)
	case iss != issuer || purpose != receiptPurpose:
		return Receipt{}, fmt.Errorf("%w: iss is %.80q and purpose %.80q, want %q and %q", ErrNotReceipt, iss, purpose, issuer, receiptPurpose)
	case sub != r.AgentID:
		return Receipt{}, fmt.Errorf("%w: agent_id is %.80q and sub is %.80q, want the same", ErrMalformed, r.AgentID, sub)
	}
	return r, nil
}

// VerifyResult verifies the receipt that stands in a result, and that it is of this
// result. The bytes have to be those that came: a result that was read and written again
// has others. It may be the result alone, or the JSON-RPC response that it came in.
func VerifyResult(result []byte, keys []PublicKey) (Receipt, error) {
	token, bare, err := takeReceipt(result)
	if err != nil {
		return Receipt{}, fmt.Errorf("verifying the receipt: %w", err)
	}
	r, err := VerifyReceipt(token, keys)
	if err != nil {
		return Receipt{}, err
	}
	for _, without := range bare {
		if action.Hash(sha256.Sum256(without)).String() == r.ResultHash {
			return r, nil
		}
	}
	return Receipt{}, fmt.Errorf("verifying the receipt: %w: its result_hash is %s, and this result, as it is written here, has another; it was changed, or read and written again", ErrResult, r.ResultHash)
}

// takeReceipt takes the receipt out of a result: its token, and the result as it was
// before. There are two ways in which it can have been, when it is alone in _meta:
// without any, and with an empty one.
func takeReceipt(text []byte) (token string, bare [][]byte, err error) {
	result := bytes.TrimSpace(text)
	if response, err := member(result, "result"); err == nil && response.Raw != nil {
		if version, err := member(result, "jsonrpc"); err == nil && version.Raw != nil {
			result = response.Raw
		}
	}
	meta, err := member(result, "_meta")
	if err != nil {
		return "", nil, err
	}
	quoted, err := member(meta.Raw, ReceiptKey)
	if err != nil || len(quoted.Raw) < 2 || quoted.Raw[0] != '"' {
		return "", nil, fmt.Errorf("%w: want a result with %q in its _meta", ErrNotReceipt, ReceiptKey)
	}
	own := `"` + ReceiptKey + `":` + string(quoted.Raw)
	if rest, ok := withoutFirst(result, `"_meta":{`+own+`}`); ok {
		bare = append(bare, rest)
	}
	if rest, ok := withoutFirst(meta.Raw, own); ok {
		bare = append(bare, slices.Concat(result[:meta.Start], rest, result[meta.Start+len(meta.Raw):]))
	}
	return string(quoted.Raw[1 : len(quoted.Raw)-1]), bare, nil
}

// member is an object's member; its Raw is nil when there is none.
func member(object []byte, name string) (action.Field, error) {
	if len(object) == 0 {
		return action.Field{}, nil
	}
	fields, err := action.Scan(object, action.Limits{Bytes: len(object) + 1, Depth: maxResultDepth})
	if err != nil {
		return action.Field{}, fmt.Errorf("%w: the result: %w", ErrMalformed, err)
	}
	for _, f := range fields {
		if f.Key == name {
			return f, nil
		}
	}
	return action.Field{}, nil
}

// maxResultDepth is how deep a result may nest.
const maxResultDepth = 1000

// withoutFirst takes a member from the beginning of an object, and the comma behind it.
func withoutFirst(object []byte, first string) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(object, []byte("{"+first))
	if !ok {
		return nil, false
	}
	return append([]byte("{"), bytes.TrimPrefix(rest, []byte(","))...), true
}
