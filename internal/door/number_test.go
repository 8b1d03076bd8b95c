package door

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		name string
		sent []string
		kept bool
	}{
		{"none", nil, false},
		{"a good one", []string{"Req_1.a-B"}, true},
		{"the longest", []string{strings.Repeat("x", 64)}, true},
		{"too long", []string{strings.Repeat("x", 65)}, false},
		{"empty", []string{""}, false},
		{"two", []string{"a", "b"}, false},
		{"the same twice", []string{"a", "a"}, false},
		{"a list", []string{"a,b"}, false},
		{"white space", []string{"a b"}, false},
		{"a line", []string{"a\nb"}, false},
		{"a line at its end", []string{"a\n"}, false},
		{"markup", []string{"<b>"}, false},
		{"not ASCII", []string{"é"}, false},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header["X-Request-Id"] = tt.sent
		Number(w, r)
		got := w.Header().Values("X-Request-Id")
		if len(got) != 1 || !requestIDForm.MatchString(got[0]) || RequestID(w) != got[0] {
			t.Errorf("%s: %q", tt.name, got)
		} else if tt.kept != (len(tt.sent) > 0 && got[0] == tt.sent[0]) {
			t.Errorf("%s: sent %q, got %q", tt.name, tt.sent, got)
		}
	}
}

func TestNumbersAreFresh(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		w := httptest.NewRecorder()
		Number(w, httptest.NewRequest("GET", "/", nil))
		seen[RequestID(w)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d numbers for 1000 requests", len(seen))
	}
}

func TestJSONErrorHasTheNumber(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	JSONError(w, http.StatusTeapot, "A_CODE", "A message.")
	if strings.Contains(w.Body.String(), "request_id") {
		t.Errorf("without a number: %s", w.Body)
	}
	w = httptest.NewRecorder()
	r.Header.Set("X-Request-Id", "mine")
	Number(w, r)
	JSONError(w, http.StatusTeapot, "A_CODE", "A message.")
	var got struct{ Error map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Error["request_id"] != "mine" {
		t.Errorf("%s: %v", w.Body, err)
	}
}

// Who stands behind the door may refuse in its own way.
func TestGuardRefuse(t *testing.T) {
	var codes []string
	h := Guard(Config{Port: 8787, Refuse: func(w http.ResponseWriter, r *http.Request, status int, code, message string) {
		codes = append(codes, code)
		JSONError(w, status, code, message)
	}}, ok)
	for _, tt := range []struct{ host, name, value string }{
		{"evil.example", "", ""}, {"localhost:8787", "Origin", "null"}, {"localhost:8787", "Sec-Fetch-Site", "same-site"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = tt.host
		r.Header.Set(tt.name, tt.value)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if got := strings.Join(codes, " "); got != "WRONG_HOST FOREIGN_ORIGIN FOREIGN_SITE" {
		t.Errorf("codes %q", got)
	}
}
