package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/openleash/openleash-go/action"
)

// A fault is a refusal that the caller is told.
type fault struct {
	status      int
	Code        string            `json:"code"`
	Message     string            `json:"message"`
	FieldErrors map[string]string `json:"field_errors,omitempty"`
	RequestID   string            `json:"request_id,omitempty"` // refuse sets it
	retry       time.Duration     // after which it can be tried again; zero: whenever
}

func (f *fault) Error() string { return f.Code + ": " + f.Message }

func badRequest(code, format string, args ...any) *fault {
	return &fault{status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// badField is a fault in one field.
func badField(name, format string, args ...any) *fault {
	f := badRequest("VALIDATION_ERROR", name+": "+format, args...)
	f.FieldErrors = map[string]string{name: fmt.Sprintf(format, args...)}
	return f
}

// readObject reads a body that must be one JSON object with no other keys than known.
func readObject(r *http.Request, known ...string) (action.Value, error) {
	body, err := readBody(r)
	if err != nil {
		return action.Value{}, err
	}
	v, err := parseObject(body, action.Limits{Bytes: maxBody})
	if err != nil {
		return v, err
	}
	return v, onlyKnown(v, known)
}

// readBody reads a body whole.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &fault{status: http.StatusRequestEntityTooLarge, Code: "BODY_TOO_LARGE",
			Message: fmt.Sprintf("The body is too large; at most %d bytes are accepted here.", tooLarge.Limit)}
	case err != nil:
		return nil, badRequest("BODY_INCOMPLETE", "The body did not arrive whole.")
	}
	return body, nil
}

// parseObject reads one JSON object.
func parseObject(body []byte, limits action.Limits) (action.Value, error) {
	if len(body) == 0 {
		return action.Value{}, badRequest("MISSING_BODY", "Send a JSON object as the body.")
	}
	v, err := action.Parse(body, limits)
	if err != nil {
		return action.Value{}, badRequest("INVALID_JSON", "The body is not acceptable JSON: %v.", err)
	}
	if v.Kind() != action.Object {
		return action.Value{}, badRequest("INVALID_JSON", "The body must be a JSON object.")
	}
	return v, nil
}

// readOptional is readObject for a body that may be left out.
func readOptional(r *http.Request, known ...string) (action.Value, error) {
	v, err := readObject(r, known...)
	var f *fault
	if errors.As(err, &f) && f.Code == "MISSING_BODY" {
		return action.Value{}, nil
	}
	return v, err
}

// optionalStrings reads fields that are strings, and may be left out.
func optionalStrings(v action.Value, names ...string) (list []string, err error) {
	for _, name := range names {
		text, err := optionalString(v, name)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, nil
}

// givenString reads a string that changes something: left out, nothing does. null is
// refused: it would be taken for one or the other.
func givenString(v action.Value, name string) (*string, error) {
	switch field := v.Get(name); field.Kind() {
	case action.Missing:
		return nil, nil
	case action.String:
		text := field.Text()
		return &text, nil
	default:
		return nil, badField(name, "want a string")
	}
}

// givenStrings is givenString for a list of them.
func givenStrings(v action.Value, name string) (*[]string, error) {
	field := v.Get(name)
	if field.Kind() == action.Missing {
		return nil, nil
	}
	list := []string{}
	for _, item := range field.Items() {
		if item.Kind() != action.String {
			return nil, badField(name, "want a list of strings")
		}
		list = append(list, item.Text())
	}
	if field.Kind() != action.Array {
		return nil, badField(name, "want a list of strings")
	}
	return &list, nil
}

// onlyKnown refuses keys that would be ignored: a misspelt expectation would
// else be one that nobody checks.
func onlyKnown(v action.Value, known []string) error {
	for key := range v.Members() {
		if !slices.Contains(known, key) {
			return badField(key, "unknown field; known are %v", known)
		}
	}
	return nil
}

// optionalString reads a string that may be left out; null and "" say the same.
func optionalString(v action.Value, name string) (string, error) {
	switch field := v.Get(name); field.Kind() {
	case action.Missing, action.Null:
		return "", nil
	case action.String:
		return field.Text(), nil
	default:
		return "", badField(name, "want a string")
	}
}

// optionalBool reads a switch that may be left out.
func optionalBool(v action.Value, name string) (bool, error) {
	switch field := v.Get(name); field.Kind() {
	case action.Missing, action.Null:
		return false, nil
	case action.Bool:
		return field.IsTrue(), nil
	default:
		return false, badField(name, "want true or false")
	}
}

// oneOf reads a word of some.
func oneOf(v action.Value, name string, words []string) (string, error) {
	word, err := optionalString(v, name)
	if err == nil && !slices.Contains(words, word) {
		err = badField(name, "want one of %v, got %.40q", words, word)
	}
	return word, err
}
