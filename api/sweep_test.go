package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/internal/door"
)

// What is true of every route, also of those that are still to come: these tests go
// through routes(). Where it is asked who calls, 401 may come first.

var placeholder = regexp.MustCompile(`\{[a-zA-Z_]+\}`)

// sweep calls do with every route and a path of it.
func sweep(t *testing.T, do func(t *testing.T, rt route, path string)) {
	for _, rt := range (&server{}).routes() {
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			do(t, rt, placeholder.ReplaceAllString(rt.path, "5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c03"))
		})
	}
}

// or401 are the statuses of a refusal.
func (rt route) or401(status int) []int {
	if rt.access == anybody {
		return []int{status}
	}
	return []int{status, http.StatusUnauthorized}
}

// takes are the methods of a path.
func takes(path string) (all []string) {
	for _, rt := range (&server{}).routes() {
		if rt.path == path {
			all = append(all, rt.method)
			if rt.method == http.MethodGet {
				all = append(all, http.MethodHead)
			}
		}
	}
	slices.Sort(all)
	return all
}

// mustRefuse says what is wrong with a refusal.
func mustRefuse(t *testing.T, what string, w *httptest.ResponseRecorder, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, w.Code) {
		t.Errorf("%s = %d %s, want %v", what, w.Code, w.Body, statuses)
		return
	}
	var got struct {
		Error struct {
			Code, Message string
			RequestID     string `json:"request_id"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Errorf("%s = %d %s: %v", what, w.Code, w.Body, err)
		return
	}
	h := w.Header()
	switch {
	case got.Error.Code == "" || got.Error.Message == "":
		t.Errorf("%s = %s: no code or no message", what, w.Body)
	case got.Error.RequestID == "" || got.Error.RequestID != h.Get("X-Request-Id"):
		t.Errorf("%s: request_id %q, X-Request-Id %q", what, got.Error.RequestID, h.Get("X-Request-Id"))
	case h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store":
		t.Errorf("%s: headers %v", what, h)
	case (w.Code == http.StatusMethodNotAllowed) != (h.Get("Allow") != ""):
		t.Errorf("%s = %d with Allow %q", what, w.Code, h.Get("Allow"))
	case (w.Code == http.StatusTooManyRequests) != (h.Get("Retry-After") != ""):
		t.Errorf("%s = %d with Retry-After %q", what, w.Code, h.Get("Retry-After"))
	}
}

func TestEveryBodyIsReadStrictly(t *testing.T) {
	h := newAPI(t, config(t))
	bodies := map[string]string{
		"nothing": "", "cut off": `{"token":`, "null": "null", "a list": "[]", "a string": `"token"`, "a number": "1", "true": "true", "white space": " \n",
		"a key twice": `{"a":1,"a":2}`, "a key twice, deep inside": `{"a":{"b":[{"c":1,"c":2}]}}`, "two values": "{} {}", "a byte-order mark": "\ufeff{}",
		"not UTF-8": "{\"a\":\"\xff\"}", "a lone surrogate": `{"a":"\ud800"}`, "NUL": "{}\x00", "a comment": "{/**/}", "a comma too many": `{"a":1,}`, "a bare key": "{a:1}",
		"deep lists": strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "deep objects": strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000),
		"deep and open": strings.Repeat("[", 50_000), "a number out of range": `{"a":1e999999999999}`,
	}
	sweep(t, func(t *testing.T, rt route, path string) {
		if rt.method == http.MethodGet || rt.method == http.MethodDelete {
			return
		}
		for name, body := range bodies {
			mustRefuse(t, name, ask(h, rt.method, path, body), rt.or401(http.StatusBadRequest)...)
		}
		if rt.access == anybody {
			mustRefuse(t, "an unknown key", ask(h, rt.method, path, `{"no_such_key":1}`), http.StatusBadRequest)
		}
	})
}

func TestEveryBodyIsBounded(t *testing.T) {
	h := newAPI(t, config(t))
	large := `{"token":"` + strings.Repeat("a", 2<<20) + `"}`
	sweep(t, func(t *testing.T, rt route, path string) {
		mustRefuse(t, "2 MiB", ask(h, rt.method, path, large), http.StatusRequestEntityTooLarge)
		if rt.method == http.MethodGet || rt.method == http.MethodDelete {
			return
		}
		r := httptest.NewRequest(rt.method, path, io.MultiReader(strings.NewReader(large))) // does not tell its length
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		mustRefuse(t, "2 MiB in pieces", w, rt.or401(http.StatusRequestEntityTooLarge)...)
	})
}

func TestEveryBodyIsJSON(t *testing.T) {
	h := newAPI(t, config(t))
	sweep(t, func(t *testing.T, rt route, path string) {
		for _, types := range [][]string{nil, {""}, {"text/plain"}, {"application/x-www-form-urlencoded"}, {"application/json-patch+json"},
			{"application/json; charset=utf-16"}, {"application/json", "application/json"}, {"application/json, text/plain"}} {
			r := httptest.NewRequest(rt.method, path, strings.NewReader("{}"))
			for _, media := range types {
				r.Header.Add("Content-Type", media)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			mustRefuse(t, fmt.Sprintf("Content-Type %q", types), w, http.StatusUnsupportedMediaType)
		}
	})
}

func TestEveryPathHasItsMethods(t *testing.T) {
	h := newAPI(t, config(t))
	sweep(t, func(t *testing.T, rt route, path string) {
		allowed := takes(rt.path)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			w := ask(h, method, path, "{}")
			if slices.Contains(allowed, method) {
				if strings.Contains(w.Body.String(), "tells what there is") || w.Code == http.StatusMethodNotAllowed {
					t.Errorf("%s = %d %s", method, w.Code, w.Body)
				}
				continue
			}
			mustRefuse(t, method, w, http.StatusMethodNotAllowed)
			if got := w.Header().Get("Allow"); got != strings.Join(allowed, ", ") {
				t.Errorf("%s: Allow %q, want %v", method, got, allowed)
			}
		}
	})
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	server := httptest.NewServer(newAPI(t, config(t)))
	defer server.Close()
	sweep(t, func(t *testing.T, rt route, path string) {
		if rt.method != http.MethodGet {
			return
		}
		get, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		get.Body.Close()
		head, err := http.Head(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer head.Body.Close()
		body, err := io.ReadAll(head.Body)
		if err != nil || len(body) > 0 || head.StatusCode != get.StatusCode || head.Header.Get("X-Request-Id") == "" || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("HEAD = %d %v with %d bytes (%v), GET = %d", head.StatusCode, head.Header, len(body), err, get.StatusCode)
		}
	})
}

// A path is read in one way: what another reader may take for it is another.
func TestEveryPathIsWrittenInOneWay(t *testing.T) {
	h := guarded(t)
	sweep(t, func(t *testing.T, rt route, path string) {
		body := ""
		if rt.method != http.MethodGet {
			body = "{}"
		}
		for _, other := range []string{
			path + "/", "/" + path, path + "//", strings.Replace(path, "/", "//", 2), "/." + path, "/x/.." + path, path + "/.", path + "/..", path + "/../" + path[strings.LastIndex(path, "/")+1:],
			path[:2] + fmt.Sprintf("%%%02x", path[2]) + path[3:], path[:2] + "%2" + "F" + path[2:], path + "%20", path + "%00", path + "%ff", path + "%2f", path + "%2e", "/%2e%2e" + path,
			strings.ToUpper(path[:3]) + path[3:], path + ";a=b",
		} {
			r := httptest.NewRequest(rt.method, other, strings.NewReader(body))
			if body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			r.Host = "localhost:8787"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Body.String() == elsewhere { // is not ours, as /V1 is not
				continue
			}
			mustRefuse(t, other, w, rt.or401(http.StatusNotFound)...)
		}
	})
}

// atHome gives requests a host that the door lets in.
func atHome(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "localhost:8787"
		h.ServeHTTP(w, r)
	})
}

const elsewhere = "a page\n"

// guarded is the API as the program has it: behind the door, beside pages.
func guarded(t testing.TB) http.Handler {
	v1, err := New(config(t))
	if err != nil {
		t.Fatal(err)
	}
	site := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, elsewhere) })
	return door.Guard(door.Config{Port: 8787, Refuse: Refuse}, Before(v1, site))
}

// The door refuses programs as the API does, and people with a sentence.
func TestDoorRefusesAsTheAPIDoes(t *testing.T) {
	h := guarded(t)
	tests := []struct {
		name, host, header, value string
		status                    int
	}{
		{"another host", "evil.example", "", "", http.StatusMisdirectedRequest},
		{"a foreign page", "localhost:8787", "Origin", "https://evil.example", http.StatusForbidden},
		{"a foreign site", "localhost:8787", "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
	}
	for _, tt := range tests {
		from := func(path string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = tt.host
			if tt.header != "" {
				r.Header.Set(tt.header, tt.value)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		sweep(t, func(t *testing.T, _ route, path string) {
			mustRefuse(t, tt.name, from(path), tt.status)
		})
		for _, path := range []string{"/v1", "/v1/", "//v1/health", "/v1/nothing", "/x/../v1/health"} {
			mustRefuse(t, tt.name+" at "+path, from(path), tt.status)
		}
		for _, path := range []string{"/", "/approvals", "/v10", "/.well-known/other"} {
			if w := from(path); w.Code != tt.status || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
				t.Errorf("%s at %s = %d %s", tt.name, path, w.Code, w.Body)
			}
		}
	}
}

func TestBefore(t *testing.T) {
	h := atHome(guarded(t))
	for _, path := range []string{"/v1", "/v1/", "/v1/nothing", "//v1", "/v1//health", "/x/..//v1/health", "/%76%31/health"} {
		mustRefuse(t, path, ask(h, "GET", path, ""), http.StatusNotFound)
	}
	for _, path := range []string{"/", "/v10/health", "/v1x", "/agents.md5", "/.well-known/", "/x/v1/health", "/v1/../approvals"} {
		if w := ask(h, "GET", path, ""); w.Code != 200 || w.Body.String() != elsewhere {
			t.Errorf("%s = %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(h, "GET", "/v1/health?x=%2f//", ""); w.Code != 200 {
		t.Errorf("a query = %d %s", w.Code, w.Body)
	}
}

// Whatever comes, the answer is one, and a refusal is one that can be read.
func FuzzAnswers(f *testing.F) {
	h := guarded(f)
	for _, rt := range (&server{}).routes() {
		f.Add(rt.method, rt.path, "application/json", "", "{}")
		f.Add(rt.method, rt.path+"/", "text/plain", "a b", `{"token":1}`)
	}
	f.Add("POST", "/v1/%76erify-proof?x", "application/json; charset=utf-8", "Sent-by.me_1", `{"token":"v4.public.AAAA"}`)
	f.Add("POST", "/v1/playground/run", "application/json", strings.Repeat("x", 65), playgroundBody("1"))
	f.Fuzz(func(t *testing.T, method, target, media, id, body string) {
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost:8787\r\nContent-Type: %s\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n", method, target, media, id, len(body))
		r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), strings.NewReader(body))))
		if err != nil {
			return
		}
		n := asked.Add(1)
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1234", n>>16&255, n>>8&255, n&255)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch {
		case w.Code >= 500:
			t.Errorf("%s %s = %d %s", method, target, w.Code, w.Body)
		case w.Code >= 400 && ours(r):
			mustRefuse(t, method+" "+target, w, w.Code)
		case bytes.Contains(w.Body.Bytes(), []byte(elsewhere)) == ours(r):
			t.Errorf("%s %q was answered by the other", method, target)
		case ours(r) && w.Header().Get("X-Request-Id") == "":
			t.Errorf("%s %s has no X-Request-Id", method, target)
		}
	})
}
