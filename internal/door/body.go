package door

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Carries says what the body of a request may be.
type Carries struct {
	MediaType string        // "application/json"
	Bytes     int64         // at most so many
	Within    time.Duration // received within; zero: 30 s
	// Refuse writes the refusal; nil: JSONError.
	Refuse func(w http.ResponseWriter, status int, code, message string)
}

// Text is a Refuse for pages and people: a plain sentence.
func Text(w http.ResponseWriter, status int, _, message string) { text(w, status, message) }

// Body lets a request through whose body is of the right type and size. A body
// that does not tell its length is cut off at the limit: reading on gives an
// *http.MaxBytesError. The type is asked of every request that has a body, and of
// every POST, PUT and PATCH that names one: pages of other sites can send
// text/plain and form bodies without asking, and nothing else.
func Body(c Carries, next http.Handler) http.Handler {
	if c.Refuse == nil {
		c.Refuse = JSONError
	}
	if c.Within == 0 {
		c.Within = 30 * time.Second
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !c.rightType(r):
			c.Refuse(w, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE",
				"The body must be "+c.MediaType+": send the header Content-Type: "+c.MediaType+".")
			return
		case r.ContentLength > c.Bytes:
			// The body is not going to be read: do not keep the connection for it.
			w.Header().Set("Connection", "close")
			c.Refuse(w, http.StatusRequestEntityTooLarge, "BODY_TOO_LARGE",
				fmt.Sprintf("The body has %d bytes; at most %d are accepted here.", r.ContentLength, c.Bytes))
			return
		}
		limited := r.WithContext(r.Context())
		limited.Body = &timedBody{
			ReadCloser: http.MaxBytesReader(w, r.Body, c.Bytes),
			control:    http.NewResponseController(w), within: c.Within,
		}
		next.ServeHTTP(w, limited)
	})
}

// rightType checks the Content-Type, where there is a body or the method wants one.
func (c Carries) rightType(r *http.Request) bool {
	values := r.Header.Values("Content-Type")
	if r.ContentLength == 0 && len(values) == 0 {
		return true
	}
	bodyless := !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, r.Method)
	if r.ContentLength == 0 && bodyless {
		return true // the public SDKs name application/json on GET
	}
	if len(values) != 1 {
		return false
	}
	media, params, err := mime.ParseMediaType(values[0])
	if err != nil || media != c.MediaType {
		return false
	}
	charset, named := params["charset"]
	return !named || strings.EqualFold(charset, "utf-8")
}

// timedBody gives the sender a time-out from the first read to the last.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	within  time.Duration
	started bool
	ended   bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	if !b.started {
		b.started = true
		b.deadline(time.Now().Add(b.within))
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.end()
	}
	return n, err
}

func (b *timedBody) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

// end takes the deadline away, so that it does not end the stream that answers.
func (b *timedBody) end() {
	if b.started && !b.ended {
		b.ended = true
		b.deadline(time.Time{})
	}
}

// deadline sets the connection's; a recorder in a test has none.
func (b *timedBody) deadline(t time.Time) { b.control.SetReadDeadline(t) }
