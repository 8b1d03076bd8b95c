package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/proof"
)

// from asks from an address.
func askFrom(h http.Handler, address, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = address
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// What costs CPU is answered an address only so often, whatever it asks; others are not
// kept from it.
func TestAddressesAreLimited(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		atOnce             int
	}{
		{"POST", "/v1/verify-proof", `{"token":"x"}`, verificationsAtOnce},
		{"POST", "/v1/verify-proof", `{`, verificationsAtOnce},
		{"POST", playgroundPlace, playgroundBody("1"), trialsAtOnce},
		{"GET", keyPlace, "", verificationsAtOnce},
	} {
		c, at := config(t), now
		c.Now = func() time.Time { return at }
		h := newAPI(t, c)
		for i := range tt.atOnce {
			if w := askFrom(h, fmt.Sprintf("192.0.2.7:%d", 1000+i), tt.method, tt.path, tt.body); w.Code == http.StatusTooManyRequests {
				t.Fatalf("%s: request %d = %s", tt.path, i, w.Body)
			}
		}
		w := askFrom(h, "192.0.2.7:999", tt.method, tt.path, tt.body)
		mustRefuse(t, tt.path, w, http.StatusTooManyRequests)
		if code := read[envelope](t, w).Error.Code; code != "RATE_LIMITED" || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s = %s, Retry-After %q", tt.path, code, w.Header().Get("Retry-After"))
		}
		if w := askFrom(h, "192.0.2.8:999", tt.method, tt.path, tt.body); w.Code == http.StatusTooManyRequests {
			t.Errorf("%s: another address is refused: %s", tt.path, w.Body)
		}
		if w := askFrom(h, "192.0.2.7:999", "GET", "/v1/health", ""); w.Code != 200 {
			t.Errorf("health = %d %s", w.Code, w.Body)
		}
		at = at.Add(time.Second)
		if w := askFrom(h, "192.0.2.7:999", tt.method, tt.path, tt.body); w.Code == http.StatusTooManyRequests {
			t.Errorf("%s: refused after the time that was told", tt.path)
		}
	}
}

func TestQuestionIsBounded(t *testing.T) {
	h := newAPI(t, config(t))
	body := `{"token":"` + strings.Repeat("a", maxQuestion) + `"}`
	mustRefuse(t, "a long token", ask(h, "POST", "/v1/verify-proof", body), http.StatusRequestEntityTooLarge)
}

// The playground tries a few policies at a time, and who waits is served in the end, or
// leaves.
func TestTrialsWaitForRoom(t *testing.T) {
	h, err := New(config(t))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 10 * maxTrials {
		wg.Go(func() {
			if w := ask(h, "POST", playgroundPlace, playgroundBody("1")); w.Code != 200 {
				t.Errorf("= %d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()

	s := &server{rooms: make(chan struct{}, 1)}
	done, err := s.trying(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := s.trying(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("no room, and the caller is gone: %v", err)
	}
	done()
	if _, err := s.trying(t.Context()); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// A failure is found in the log again: by the number that the caller was told, and that
// was not told why.
func TestFailuresAreLoggedByNumber(t *testing.T) {
	failing := map[string]func(*Config){
		"unknown keys": func(c *Config) { c.Keys = func() []proof.PublicKey { return nil } },
		"a panic":      func(c *Config) { c.Keys = func() []proof.PublicKey { panic("secret") } },
		"an error": func(c *Config) { // the key that signs is not among them
			other, err := proof.NewKey(now)
			if err != nil {
				t.Fatal(err)
			}
			c.Keys = func() []proof.PublicKey { return []proof.PublicKey{other.Public()} }
		},
		"a dead handler": func(c *Config) { c.LogErr = func() error { panic(errors.New("secret")) } },
	}
	for name, fail := range failing {
		var log strings.Builder
		c := config(t)
		c.Log = zerolog.New(&log)
		fail(&c)
		path := "/v1/key-document"
		if name == "a dead handler" {
			path = "/v1/health"
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("X-Request-Id", "find.me-1")
		w := httptest.NewRecorder()
		newAPI(t, c).ServeHTTP(w, r)
		mustRefuse(t, name, w, http.StatusInternalServerError, http.StatusServiceUnavailable)
		if w.Header().Get("X-Request-Id") != "find.me-1" || !strings.Contains(log.String(), `"request_id":"find.me-1"`) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %s %s\nlog: %s", name, w.Header().Get("X-Request-Id"), w.Body, log.String())
		}
	}
}

// A caller who has gone is no failure of ours.
func TestAbortIsNotAnswered(t *testing.T) {
	c := config(t)
	c.LogErr = func() error { panic(http.ErrAbortHandler) }
	h := newAPI(t, c)
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v", v)
		}
	}()
	ask(h, "GET", "/v1/health", "")
}

// Every answer has a number, a good one too.
func TestEveryAnswerIsNumbered(t *testing.T) {
	h := newAPI(t, config(t))
	sweep(t, func(t *testing.T, rt route, path string) {
		if w := ask(h, rt.method, path, ""); len(w.Header().Get("X-Request-Id")) != 16 {
			t.Errorf("= %d with X-Request-Id %q", w.Code, w.Header().Get("X-Request-Id"))
		}
	})
}
