package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A Conn may be closed while others send: what they send is taken and ends with it,
// or refused. (The race detector knows of a WaitGroup that is added to while it is
// waited for.)
func TestSendWhileTheConnIsClosed(t *testing.T) {
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == "GET" {
			sse(w, "event: endpoint\ndata: /messages\n\n")
			<-r.Context().Done()
			return
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(202)
	})
	for name, dial := range map[string]func(context.Context, HTTPUpstream) (Conn, error){"http": DialHTTP, "sse": DialSSE} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				c := must(dial(t.Context(), HTTPUpstream{Name: "shop", URL: up.URL}))(t)
				m := message(t, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
				var senders sync.WaitGroup
				sent := make(chan struct{}, 1)
				for range 4 {
					senders.Go(func() {
						for {
							err := c.Send(t.Context(), m)
							if err != nil {
								if !strings.Contains(err.Error(), "is closed") {
									t.Errorf("after Close: %v", err)
								}
								return
							}
							signal(sent)
						}
					})
				}
				<-sent
				c.Close()
				senders.Wait()
			}
		})
	}
}
