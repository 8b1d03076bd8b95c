package portal

import (
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// The page of a request has the log's latest checkpoint: whoever keeps it is a witness.
func TestRequestShowsTheCheckpoint(t *testing.T) {
	w := newWorld(t)
	req := w.hold(`{"sku":"A-1"}`)
	if err := w.service.Record(t.Context(), audit.Entry{Event: "test", ActorType: "system", ActorID: "test"}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); (w.service.Checkpoint() == "" || strings.Contains(w.service.Checkpoint(), "\n0\n")) && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	page := w.signedIn().get("/approvals/" + req.ID).Body
	_, shown, _ := strings.Cut(page, `aria-label="The log's latest checkpoint">`)
	shown, _, _ = strings.Cut(shown, "</pre>")
	shown = strings.NewReplacer("&#43;", "+", "&amp;", "&").Replace(shown)
	if c, err := audit.ParseCheckpoint(shown); err != nil || c.Size == 0 {
		t.Errorf("%+v, %v", c, err)
	}
}
