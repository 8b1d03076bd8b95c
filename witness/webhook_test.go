package witness

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWebhookGetsTheCheckpoint(t *testing.T) {
	tip := newLog(t).grow(2, "x")
	var got, kind, secret string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, kind, secret = r.Method+" "+string(body), r.Header.Get("Content-Type"), r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	w := NewWebhook(s.URL+"/hidden?key=hidden", map[string]string{"Authorization": "Bearer hidden"})
	if err := w.send(t.Context(), tip, 0); err != nil {
		t.Fatal(err)
	}
	if got != "POST "+string(tip.Signed) || kind != "text/plain; charset=utf-8" || secret != "Bearer hidden" {
		t.Errorf("%q, %q, %q", got, kind, secret)
	}
	if w.Name() != s.URL {
		t.Errorf("it is called %q", w.Name())
	}
}

// Whatever is answered, it is bounded, followed nowhere, and repeats no secret.
func TestHostileWebhooks(t *testing.T) {
	tip := newLog(t).grow(1, "x")
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/hidden", http.StatusTemporaryRedirect)
		}, "307, a redirect to \"" + other.URL + "\", which is not followed"},
		"error": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "hidden "+r.Header.Get("Authorization"), http.StatusInternalServerError)
		}, "want an answer 2xx, got 500"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}, "longer than 65536 bytes"},
		"slow":  {func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, "no answer within"},
		"drips": {func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); <-r.Context().Done() }, "no answer within"},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(c, "220 mail.example\r\n")
			c.Close()
		}, "malformed HTTP"},
		"gone": {nil, "refused"},
	} {
		s := httptest.NewServer(c.answer)
		if c.answer == nil {
			s.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := NewWebhook(s.URL+"/hidden", map[string]string{"Authorization": "Bearer hidden"}).send(ctx, tip, 0)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: want %q, got %v", name, c.want, err)
		}
		s.Close()
	}
	if elsewhere > 0 {
		t.Error("the redirect was followed")
	}
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://keeper.example/a?b": true, "http://127.0.0.1:8080/x": true, "http://localhost/": true, "http://[::1]:1/": true, "https://10.0.0.1/": true,
		"http://keeper.example/": false, "http://10.0.0.1/": false, "ftp://keeper.example/": false, "keeper.example": false, "": false, "https://": false,
		"https://ann:secret@keeper.example/": false, "https://keeper.example/#x": false, "http://localhost.example/": false, "https://\x7f/": false,
	} {
		if err := CheckURL(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
