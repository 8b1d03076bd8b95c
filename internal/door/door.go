// Package door is what every HTTP door of OpenLeash checks before anyone
// behind it looks at a request.
//
// We listen on this machine, and so does every page in the owner's browser: a
// web site can make the browser send requests to 127.0.0.1, and a name that its
// owner controls can be made to point there. Hence, in this order:
//
//   - Guard: the Host must be one of our names with our port (421 otherwise,
//     which defeats DNS rebinding); an Origin, when there is one, must be one of
//     ours (403); a request that the browser itself says another site has
//     made is refused (403), but for a plain link that a person followed.
//   - Body: what a request may carry: the media type (415) and the size (413).
//   - Pages: http.CrossOriginProtection and the headers that tell the browser to
//     load nothing from elsewhere and to be embedded nowhere.
//   - Bearer: an agent's token (401).
//
// A check that cannot be made is a refusal. No refusal repeats a secret.
package door

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// Name is the host name that our links use: it has a cookie jar of its own.
const Name = "openleash.localhost"

// Config says under which names we can be called.
type Config struct {
	// Port is the port that we really listen on. Zero refuses everything.
	Port int
	// ExtraHosts are further values of the Host header, as a browser sends
	// them ("leash.lan:8787"; "leash.example" when it is port 80 or 443).
	ExtraHosts []string
	// Refuse writes the refusal; nil: Text.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, code, message string)
}

// Guard lets a request through to next when it was meant for us.
func Guard(c Config, next http.Handler) http.Handler {
	hosts, origins := c.ours()
	if c.Refuse == nil {
		c.Refuse = func(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
			Text(w, status, code, message)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		if !hosts[strings.ToLower(r.Host)] {
			c.Refuse(w, r, http.StatusMisdirectedRequest, "WRONG_HOST",
				"This is OpenLeash, and the Host header names another server. Use http://"+authority(Name, c.Port)+"/.")
			return
		}
		if !ownOrigin(r.Header.Values("Origin"), origins) {
			c.Refuse(w, r, http.StatusForbidden, "FOREIGN_ORIGIN", "OpenLeash refuses requests that pages of another origin have made.")
			return
		}
		if foreignFetch(r) {
			c.Refuse(w, r, http.StatusForbidden, "FOREIGN_SITE", "OpenLeash refuses requests that other sites have made (Sec-Fetch-Site).")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ours lists the Host and Origin values that are ours, in lower case.
func (c Config) ours() (hosts, origins map[string]bool) {
	hosts, origins = map[string]bool{}, map[string]bool{}
	if c.Port <= 0 {
		return hosts, origins
	}
	for _, name := range []string{Name, "localhost", "127.0.0.1", "::1"} {
		host := authority(name, c.Port)
		hosts[host], origins["http://"+host] = true, true
	}
	for _, host := range c.ExtraHosts {
		host = strings.ToLower(host)
		hosts[host], origins["http://"+host], origins["https://"+host] = true, true, true
	}
	return hosts, origins
}

// authority writes host and port as browsers do: port 80 is left out.
func authority(host string, port int) string {
	if port != 80 {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// ownOrigin accepts no Origin at all (not a browser, or a plain GET), or one of
// ours. "null" and two of them are nobody's.
func ownOrigin(values []string, origins map[string]bool) bool {
	switch len(values) {
	case 0:
		return true
	case 1:
		return origins[strings.ToLower(values[0])]
	default:
		return false
	}
}

// foreignFetch reports what the browser itself says about a request: it was made by
// a page of another site or another port, and it is more than a link that a person
// followed into a tab of its own (a chat page that shows our link).
func foreignFetch(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	followed := (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !followed
}

// harden sets what holds for every answer; Pages loosens the policy for pages.
func harden(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
}

// PagePolicy is the content security policy of pages: our own style sheet, our
// own images, our own script, forms to ourselves, nothing inline, no frames.
const PagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Pages protects pages with forms: no cross-origin POST reaches next, and the
// answer carries the headers of a page that shows private things.
//
// Referrer-Policy is same-origin and not no-referrer: under the latter browsers
// send "Origin: null" with our own forms, and null is nobody's origin.
func Pages(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusForbidden, "OpenLeash refuses forms that pages of another origin have sent.")
	}))
	guarded := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		harden(h)
		h.Set("Content-Security-Policy", PagePolicy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		h.Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	})
}

// LocalPath reports whether s can be the target of a redirect after sign-in: a
// path on this server and nothing that a browser could read as another host.
func LocalPath(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && u.Opaque == "" &&
		strings.HasPrefix(s, "/") && path.Clean(u.Path) == u.Path && !strings.Contains(u.Path, "\\")
}

// Server returns a server for handler with the time-outs of a door. It has no
// WriteTimeout and no ReadTimeout, since answers may be streams that stay open for
// hours (Go ends the handler's context when ReadTimeout passes); Body bounds
// how long a body may take.
func Server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// From is the address from which a request came, without its port.
func From(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// text refuses with a sentence for people.
func text(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, message, status)
}

// JSONError refuses with the error envelope of the wire. A request that has a number
// (Number) finds it there.
func JSONError(w http.ResponseWriter, status int, code, message string) {
	type fault struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"request_id,omitempty"`
	}
	body, err := json.Marshal(map[string]fault{"error": {code, message, RequestID(w)}})
	if err != nil { // strings: cannot be
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // the client may be gone: nobody is left to tell
}
