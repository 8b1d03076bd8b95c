package authz

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// While the disk is away outcomes gather up to a limit; then Finish waits, and
// nothing is lost or out of order.
func TestFinisherWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		var got []string
		f := startFinisher(func(_ context.Context, b Batch) error {
			<-back
			if len(b.Entries) > finishBatch {
				t.Errorf("%d outcomes in one commit", len(b.Entries))
			}
			for _, e := range b.Entries {
				got = append(got, e.Detail)
			}
			return nil
		})
		const n = finishQueue + 2*finishBatch
		var added atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range n {
				f.add(finished{entry: audit.Entry{Detail: fmt.Sprint(i)}})
				added.Add(1)
			}
		}()
		time.Sleep(2 * gather) // the first batch is with the disk
		synctest.Wait()
		if added := added.Load(); added < finishQueue || added >= n {
			t.Errorf("%d outcomes were taken, want about %d and not all %d", added, finishQueue, n)
		}
		close(back)
		<-done
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		f.add(finished{entry: audit.Entry{Detail: "too late"}})
		for i, detail := range got {
			if detail != fmt.Sprint(i) {
				t.Fatalf("outcome %d is %q", i, detail)
			}
		}
		if len(got) != n {
			t.Errorf("%d outcomes were written, want %d", len(got), n)
		}
	})
}
