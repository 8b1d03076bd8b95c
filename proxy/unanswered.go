package proxy

import (
	"fmt"
	"io"
	"net/http"
)

// unanswered is why the upstream has not answered a message.
type unanswered struct {
	cause  cause
	undone bool   // of noResponse: the answer says that nothing was done
	short  string // what happened, in a few words: an error, a status
	detail string // and in a sentence that tells what to do
}

func (u *unanswered) Error() string { return u.short }

type cause int

const (
	notReached  cause = iota // nothing was sent
	brokenOff                // something was; whether it was done is not known
	notBelieved              // it does not accept our credentials; nothing was done
	noResponse               // it answered something else
)

func unreached(up HTTPUpstream, err error, sent bool) unanswered {
	why := unanswered{cause: notReached, short: err.Error(), detail: up.unreachable(err, sent).detail}
	if sent {
		why.cause = brokenOff
	}
	return why
}

func cutShort(up HTTPUpstream, err error) unanswered {
	if err == nil {
		err = io.EOF
	}
	return unanswered{cause: brokenOff, short: err.Error(), detail: up.broken(err).detail}
}

// noResponseIn says what an HTTP answer holds instead of a response.
func noResponseIn(up HTTPUpstream, res *http.Response, raw []byte) unanswered {
	if res.StatusCode == http.StatusOK && len(raw) == 0 { // a server that is being ended
		return unanswered{cause: brokenOff, short: "it ended the exchange without an answer", detail: up.broken(nil).detail}
	}
	short := "answered " + res.Status + " without a JSON-RPC response" + excerpt(raw)
	if said, ok := stringAt(raw, "error", "message"); ok {
		short = "answered " + res.Status + ": " + said
	}
	return unanswered{cause: noResponse, short: short, undone: res.StatusCode >= 400 && res.StatusCode < 500,
		detail: fmt.Sprintf("the upstream server %s %s", up.Name, short)}
}

// refusedBy is why an upstream has not answered that turned us away.
func refusedBy(res *http.Response, f failure) unanswered {
	switch {
	case res.StatusCode >= 400:
		return unanswered{cause: notBelieved, short: res.Status, detail: f.detail}
	case res.StatusCode >= 300:
		return unanswered{cause: noResponse, undone: true, short: "redirects to " + where(res) + ", which is not followed", detail: f.detail}
	}
	return unanswered{cause: noResponse, short: "answered with Content-Encoding " + res.Header.Get("Content-Encoding"), detail: f.detail}
}
