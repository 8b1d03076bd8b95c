package proxy

import (
	"net/http"
	"strings"

	"github.com/openleash/openleash-go/action"
)

// A host may say of which trace a call is a part, by W3C Trace Context: in _meta
// (SEP-414: "traceparent", a bare key), or in the HTTP header. The log has the trace's
// id, so that an entry is found from a trace. Nothing is decided by it, and what the
// host has sent is passed on as it is.

// traceParent is the name of the header, and of the key.
const traceParent = "traceparent"

// traceOf is the id of the trace of a call; empty: none is named.
func (c call) traceOf() string {
	if v := c.meta.Get(traceParent); v.Kind() == action.String {
		if id := traceID(v.Text()); id != "" {
			return id
		}
	}
	return c.traceID
}

// headerTrace is the id of the trace that HTTP headers name. Of two nobody knows which
// is meant.
func headerTrace(h http.Header) string {
	if v := h.Values(traceParent); len(v) == 1 {
		return traceID(v[0])
	}
	return ""
}

// traceID reads a traceparent: VERSION-TRACE-PARENT-FLAGS in lower-case hexadecimal
// digits, 2, 32, 16 and 2 of them. There is no version ff, and no trace or parent of
// zeros alone. A version after 00 may have more, after another "-".
func traceID(text string) string {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(text) < length || len(text) > length && (text[:2] == "00" || text[length] != '-') {
		return ""
	}
	parts := strings.Split(text[:length], "-")
	if len(parts) != 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || len(parts[2]) != 16 {
		return ""
	}
	for _, part := range parts {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return ""
		}
	}
	if parts[0] == "ff" || strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return ""
	}
	return parts[1]
}
