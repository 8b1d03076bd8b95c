package proxy

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openleash/openleash-go/internal/door"
)

// One who sends a byte now and then is given up: in the headers after 10 s, in
// the body after 30 s, with an answer. Time is not real here.
func TestSlowSendersAreGivenUp(t *testing.T) {
	body := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n"
	for name, tt := range map[string]struct {
		at   int // from here on slowly
		says string
		most time.Duration
	}{
		"headers": {10, "", 11 * time.Second},
		"body":    {len(head) + 10, "could not be read", 31 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := plainProxy().HTTPPassthrough(HTTPUpstream{URL: "http://127.0.0.1:1"})
				dial := memoryNet(t, door.Server(door.Body(door.Carries{MediaType: typeJSON, Bytes: 1 << 20},
					http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						h.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), someone("a"))))
					}))))
				c := must(dial(context.Background(), "", ""))(t)
				var sender sync.WaitGroup
				defer sender.Wait()
				defer c.Close()
				begin := time.Now()
				sender.Go(func() {
					io.WriteString(c, (head + body)[:tt.at])
					for _, b := range []byte((head + body)[tt.at:]) {
						time.Sleep(5 * time.Second)
						if _, err := c.Write([]byte{b}); err != nil {
							return
						}
					}
				})
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if took := time.Since(begin); took > tt.most {
					t.Errorf("it took %s", took)
				}
				if err != nil || res.StatusCode != 400 {
					t.Fatalf("got %v, %v", res, err)
				}
				if text, _ := io.ReadAll(res.Body); !strings.Contains(string(text), tt.says) {
					t.Errorf("got %s", text)
				}
			})
		})
	}
}
