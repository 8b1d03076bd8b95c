package door

import (
	"crypto/rand"
	"net/http"
	"regexp"
)

const requestID = "X-Request-Id"

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Number gives the request a name, in the header X-Request-Id of its answer: the
// caller's, when it sent exactly one that is 1 to 64 of [A-Za-z0-9._-], else a random
// one of ours. By it a refusal is found again in the program's log. It decides nothing:
// callers may send the same one twice, or another's.
func Number(w http.ResponseWriter, r *http.Request) {
	sent := r.Header.Values(requestID)
	if len(sent) == 1 && requestIDForm.MatchString(sent[0]) {
		w.Header().Set(requestID, sent[0])
		return
	}
	w.Header().Set(requestID, rand.Text()[:16])
}

// RequestID is the name that Number gave the request that w answers; empty: none.
func RequestID(w http.ResponseWriter) string { return w.Header().Get(requestID) }
