package door

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// ok answers 200 and repeats the body.
var ok = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	w.Write(body)
})

func TestGuard(t *testing.T) {
	const own = "openleash.localhost:8787"
	tests := []struct {
		name, method, host string
		headers            map[string][]string
		want               int
	}{
		{"our name", "GET", own, nil, 200},
		{"upper case", "GET", "OpenLeash.LOCALHOST:8787", nil, 200},
		{"localhost", "GET", "localhost:8787", nil, 200},
		{"IPv4", "GET", "127.0.0.1:8787", nil, 200},
		{"IPv6", "GET", "[::1]:8787", nil, 200},
		{"extra", "GET", "leash.lan:9000", nil, 200},
		{"rebinding", "GET", "evil.example:8787", nil, 421},
		{"below our name", "GET", "evil.openleash.localhost:8787", nil, 421},
		{"other port", "GET", "localhost:8788", nil, 421},
		{"no port", "GET", "localhost", nil, 421},
		{"no host", "GET", "", nil, 421},
		{"trailing dot", "GET", "localhost.:8787", nil, 421},
		{"another loopback address", "GET", "127.0.0.2:8787", nil, 421},

		{"own origin", "POST", own, map[string][]string{"Origin": {"http://openleash.localhost:8787"}}, 200},
		{"origin under another of our names", "POST", own, map[string][]string{"Origin": {"http://127.0.0.1:8787"}}, 200},
		{"TLS in front of an extra host", "POST", "leash.lan:9000", map[string][]string{"Origin": {"https://leash.lan:9000"}}, 200},
		{"foreign origin", "POST", own, map[string][]string{"Origin": {"https://evil.example"}}, 403},
		{"foreign origin on GET", "GET", own, map[string][]string{"Origin": {"https://evil.example"}}, 403},
		{"origin on another port", "POST", own, map[string][]string{"Origin": {"http://localhost:3000"}}, 403},
		{"origin over TLS, which we have not", "POST", own, map[string][]string{"Origin": {"https://localhost:8787"}}, 403},
		{"null origin", "POST", own, map[string][]string{"Origin": {"null"}}, 403},
		{"empty origin", "POST", own, map[string][]string{"Origin": {""}}, 403},
		{"two origins", "POST", own, map[string][]string{"Origin": {"http://localhost:8787", "https://evil.example"}}, 403},

		{"typed address", "GET", own, map[string][]string{"Sec-Fetch-Site": {"none"}}, 200},
		{"own page", "POST", own, map[string][]string{"Sec-Fetch-Site": {"same-origin"}}, 200},
		{"image in another site's page", "GET", own, map[string][]string{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}}, 403},
		{"image in a page of another port", "GET", own, map[string][]string{"Sec-Fetch-Site": {"same-site"}, "Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}}, 403},
		{"followed link", "GET", own, map[string][]string{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}, 200},
		{"frame", "GET", own, map[string][]string{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}, 403},
		{"another site's form", "POST", own, map[string][]string{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}, 403},
		{"unknown word", "GET", own, map[string][]string{"Sec-Fetch-Site": {"neighbour"}}, 403},
	}
	h := Guard(Config{Port: 8787, ExtraHosts: []string{"Leash.lan:9000"}}, ok)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", nil)
			r.Host = tt.host
			for k, v := range tt.headers {
				r.Header[k] = v
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%s with Host %q and %v = %d %s, want %d", tt.method, tt.host, tt.headers, w.Code, w.Body, tt.want)
			}
			if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options = %q, want nosniff", got)
			}
		})
	}
}

func TestGuardWithoutPortRefuses(t *testing.T) {
	for _, host := range []string{"localhost", "localhost:0", "", ":0", "openleash.localhost:0"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		Guard(Config{}, ok).ServeHTTP(w, r)
		if w.Code != 421 {
			t.Errorf("Host %q with no port configured = %d, want 421", host, w.Code)
		}
	}
}

func TestGuardPort80(t *testing.T) {
	for host, want := range map[string]int{"localhost": 200, "[::1]": 200, "localhost:8787": 421} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		Guard(Config{Port: 80}, ok).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q on port 80 = %d, want %d", host, w.Code, want)
		}
	}
}

func TestPages(t *testing.T) {
	tests := []struct {
		name, method, site, origin string
		want                       int
	}{
		{"view", "GET", "", "", 200},
		{"own form", "POST", "same-origin", "http://localhost:8787", 200},
		{"old browser, own form", "POST", "", "http://localhost:8787", 200},
		{"form of another site", "POST", "cross-site", "https://evil.example", 403},
		{"form of another port", "POST", "same-site", "http://localhost:3000", 403},
		{"old browser, form of another site", "POST", "", "https://evil.example", 403},
		{"old browser, null origin", "POST", "", "null", 403},
	}
	h := Pages(ok)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "http://localhost:8787/", nil)
			if tt.site != "" {
				r.Header.Set("Sec-Fetch-Site", tt.site)
			}
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("status = %d %s, want %d", w.Code, w.Body, tt.want)
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": PagePolicy, "Cache-Control": "no-store", "X-Frame-Options": "DENY",
				"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestBody(t *testing.T) {
	tests := []struct {
		name, method, contentType, body string
		want                            int
	}{
		{"JSON", "POST", "application/json", `{}`, 200},
		{"JSON in UTF-8", "POST", "application/json; charset=UTF-8", `{}`, 200},
		{"JSON in another charset", "POST", "application/json; charset=utf-16", `{}`, 415},
		{"form", "POST", "application/x-www-form-urlencoded", `a=b`, 415},
		{"text, as a page can send it", "POST", "text/plain", `{}`, 415},
		{"prefix", "POST", "application/jsonp", `{}`, 415},
		{"no type", "POST", "", `{}`, 415},
		{"not a type", "POST", ";;", `{}`, 415},
		{"body on DELETE", "DELETE", "text/plain", `{}`, 415},
		{"body on GET", "GET", "text/plain", `{}`, 415},
		{"empty POST", "POST", "", ``, 200},
		{"empty POST with a form's type", "POST", "application/x-www-form-urlencoded", ``, 415},
		{"GET of an SDK", "GET", "application/json", ``, 200},
		{"largest", "POST", "application/json", strings.Repeat("a", 16), 200},
		{"too large", "POST", "application/json", strings.Repeat("a", 17), 413},
	}
	h := Body(Carries{MediaType: "application/json", Bytes: 16}, ok)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Fatalf("status = %d %s, want %d", w.Code, w.Body, tt.want)
			}
			if tt.want != 200 && !json.Valid(w.Body.Bytes()) {
				t.Errorf("refusal %q is not JSON", w.Body)
			}
		})
	}
}

func TestBodyTwoContentTypes(t *testing.T) {
	r := httptest.NewRequest("POST", "/", strings.NewReader(`{}`))
	r.Header["Content-Type"] = []string{"application/json", "text/plain"}
	w := httptest.NewRecorder()
	Body(Carries{MediaType: "application/json", Bytes: 16}, ok).ServeHTTP(w, r)
	if w.Code != 415 {
		t.Errorf("two content types = %d, want 415", w.Code)
	}
}

// A body of unknown length is cut at the limit, over a real connection.
func TestBodyChunked(t *testing.T) {
	srv := httptest.NewServer(Body(Carries{MediaType: "application/json", Bytes: 16}, ok))
	defer srv.Close()
	for size, want := range map[int]int{16: 200, 17: 413, 1 << 20: 413} {
		body := io.MultiReader(strings.NewReader(strings.Repeat("a", size))) // hides its length
		resp, err := http.Post(srv.URL, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("chunked body of %d bytes = %d, want %d", size, resp.StatusCode, want)
		}
	}
}

// A sender that stops sending is given up; a stream that answers is not.
func TestBodyTime(t *testing.T) {
	const within = 50 * time.Millisecond
	streams := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "slow", http.StatusRequestTimeout)
			return
		}
		select {
		case <-r.Context().Done():
			http.Error(w, "the stream was ended", http.StatusInternalServerError)
		case <-time.After(4 * within):
			io.WriteString(w, "streamed")
		}
	})
	srv := httptest.NewServer(Body(Carries{MediaType: "application/json", Bytes: 1 << 10, Within: within}, streams))
	defer srv.Close()

	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nab")
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("reading the answer to a body that never ends: %v", err)
	}
	if !bytes.Contains(answer, []byte("408")) {
		t.Errorf("a body that never ends was answered with %q, want 408", answer)
	}

	resp, err := http.Post(srv.URL, "application/json", strings.NewReader("abcde"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "streamed" {
		t.Errorf("a long answer to a whole body = %d %q, want streamed", resp.StatusCode, body)
	}
}

type callerKey struct{}

func TestBearer(t *testing.T) {
	const good = "ola_good"
	lookup := func(ctx context.Context, token string) (context.Context, error) {
		switch token {
		case good:
			return context.WithValue(ctx, callerKey{}, "bot"), nil
		case "ola_broken":
			return nil, errors.New("store is gone")
		default:
			return nil, ErrUnknownToken
		}
	}
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the token went on to the next handler")
		}
		who, _ := r.Context().Value(callerKey{}).(string)
		io.WriteString(w, who)
	})
	tests := []struct {
		name   string
		header []string
		want   int
	}{
		{"good", []string{"Bearer ola_good"}, 200},
		{"scheme in lower case", []string{"bearer ola_good"}, 200},
		{"none", nil, 401},
		{"unknown", []string{"Bearer ola_other"}, 401},
		{"other scheme", []string{"Basic ola_good"}, 401},
		{"no scheme", []string{"ola_good"}, 401},
		{"empty token", []string{"Bearer "}, 401},
		{"two headers", []string{"Bearer ola_good", "Bearer ola_good"}, 401},
		{"two tokens", []string{"Bearer ola_good, Bearer ola_good"}, 401},
		{"endless", []string{"Bearer " + strings.Repeat("a", 10_000)}, 401},
		{"store fails", []string{"Bearer ola_broken"}, 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var told []error
			refused := ""
			h := Bearer(lookup, func(err error) { told = append(told, err) }, func(_ *http.Request, code string) { refused += code }, whoami)
			r := httptest.NewRequest("POST", "/mcp/shop", nil)
			r.Header["Authorization"] = tt.header
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Fatalf("status = %d %s, want %d", w.Code, w.Body, tt.want)
			}
			if tt.want == 200 {
				if w.Body.String() != "bot" || refused != "" {
					t.Errorf("caller = %q, want bot; refused %q", w.Body, refused)
				}
				return
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (tt.want == 401) {
				t.Errorf("WWW-Authenticate = %q with status %d", w.Header().Get("WWW-Authenticate"), w.Code)
			}
			if strings.Contains(w.Body.String(), "ola_good") || strings.Contains(w.Body.String(), "store is gone") {
				t.Errorf("the refusal tells too much: %s", w.Body)
			}
			var envelope struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &envelope); err != nil || envelope.Error.Code == "" {
				t.Errorf("refusal %q is no error envelope: %v", w.Body, err)
			}
			if tt.want == 401 && refused != envelope.Error.Code || tt.want == 503 && refused != "" {
				t.Errorf("refused is told %q, the answer is %d %s", refused, tt.want, envelope.Error.Code)
			}
			if (len(told) == 1) != (tt.want == 503) {
				t.Errorf("errors told = %v with status %d", told, w.Code)
			}
		})
	}
}

func TestLocalPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/approvals/1": true, "/approvals/1?a=b": true,
		"": false, "approvals": false, "//evil.example": false, "/\\evil.example": false, "/%5cevil.example": false,
		"https://evil.example/": false, "javascript:alert(1)": false, "/..//evil.example": false, "/.//evil.example": false,
		"/a\nb": false, "\t//evil.example": false,
	} {
		if got := LocalPath(path); got != want {
			t.Errorf("LocalPath(%q) = %v, want %v", path, got, want)
		}
	}
}

func TestServerEndsSlowHeaders(t *testing.T) {
	s := Server(ok)
	if s.ReadHeaderTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Errorf("a time-out or limit is missing: %+v", s)
	}
	if s.WriteTimeout != 0 || s.ReadTimeout != 0 {
		t.Errorf("WriteTimeout %v and ReadTimeout %v would end streams", s.WriteTimeout, s.ReadTimeout)
	}
}
