package ratelimit

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var start = time.Date(2026, 5, 5, 13, 42, 11, 0, time.UTC)

func TestAllow(t *testing.T) {
	l := New(2, 3, 10)
	for i := range 3 {
		if ok, wait := l.Allow("a", start); !ok || wait != 0 {
			t.Fatalf("request %d: %v, %v", i, ok, wait)
		}
	}
	if ok, wait := l.Allow("a", start); ok || wait != 500*time.Millisecond {
		t.Errorf("beyond the burst: %v, %v; want a refusal and half a second", ok, wait)
	}
	if ok, _ := l.Allow("b", start); !ok {
		t.Error("another key is refused")
	}
	if ok, _ := l.Allow("a", start.Add(499*time.Millisecond)); ok {
		t.Error("allowed before the time that was told")
	}
	if ok, _ := l.Allow("a", start.Add(500*time.Millisecond)); !ok {
		t.Error("refused after the time that was told: refusals must cost nothing")
	}
}

// Over a long time a key is allowed what it may and no more, however often it asks.
func TestRateHolds(t *testing.T) {
	l, allowed := New(5, 10, 4), 0
	for i := range 100_000 {
		if ok, _ := l.Allow("a", start.Add(time.Duration(i)*time.Millisecond)); ok {
			allowed++
		}
	}
	if allowed < 505 || allowed > 510 {
		t.Errorf("%d allowed in 100 s, want 10 and 5 a second", allowed)
	}
}

// A flood from ever new keys is bounded in all, and costs nobody the bucket he has.
func TestFloodIsBounded(t *testing.T) {
	l := New(1, 5, 100)
	l.Allow("honest", start)
	allowed := 0
	for i := range 50_000 {
		if ok, _ := l.Allow(fmt.Sprint("flood", i), start); ok {
			allowed++
		}
	}
	if want := 99 + 5; allowed != want {
		t.Errorf("%d new keys were allowed, want %d: one each while there was room, and one burst for all others", allowed, want)
	}
	for range 4 {
		if ok, _ := l.Allow("honest", start); !ok {
			t.Fatal("who was there before is refused in the flood")
		}
	}
	if ok, _ := l.Allow("honest", start); ok {
		t.Error("the flood has won a fresh burst")
	}
	later := start.Add(6 * time.Second)
	if ok, _ := l.Allow("new", later); !ok || len(l.buckets) != 100 {
		t.Errorf("after the flood: %v, %d buckets; want room for the new one in the place of an old one", ok, len(l.buckets))
	}
}

// Nobody has a fresh burst by waiting for his bucket to be dropped.
func TestDroppedBucketWasFull(t *testing.T) {
	l := New(1, 5, 1)
	for range 5 {
		l.Allow("a", start)
	}
	if l.Allow("b", start.Add(4900*time.Millisecond)); l.used.Front().Value.(*bucket).tokens.TokensAt(start.Add(5*time.Second)) < 4.9 {
		t.Error("a bucket that was not full has given way")
	}
	l.Allow("b", start.Add(5*time.Second))
	if ok, _ := l.Allow("a", start.Add(5*time.Second)); !ok || len(l.buckets) != 1 {
		t.Errorf("%d buckets, want 1, and a in the shared one", len(l.buckets))
	}
}

func TestOddConfigurations(t *testing.T) {
	if ok, wait := New(1, 0, 10).Allow("a", start); ok || wait <= 0 {
		t.Errorf("no burst: %v, %v", ok, wait)
	}
	for _, perSecond := range []float64{0, -1, math.SmallestNonzeroFloat64} {
		l := New(perSecond, 1, 1)
		l.Allow("a", start)
		if ok, wait := l.Allow("a", start.Add(time.Hour)); ok || wait != longestWait {
			t.Errorf("%g a second: %v, %v", perSecond, ok, wait)
		}
	}
	l := New(1, 1, 0)
	if a, _ := l.Allow("a", start); !a || len(l.buckets) != 0 {
		t.Error("no room for keys: want one bucket for all")
	}
	if b, _ := l.Allow("b", start); b {
		t.Error("no room for keys, and two bursts")
	}
}

// The clock may be set back: that neither refuses for ever nor allows more than before.
func TestClockGoesBack(t *testing.T) {
	l := New(1, 1, 2)
	l.Allow("a", start)
	if ok, wait := l.Allow("a", start.Add(-time.Hour)); ok || wait > time.Second {
		t.Errorf("= %v, %v", ok, wait)
	}
	if ok, _ := l.Allow("a", start.Add(time.Second)); !ok {
		t.Error("refused for ever")
	}
}

// A million keys leave the memory where a few had it, long as they are.
func TestMemoryIsFlat(t *testing.T) {
	l := New(10, 20, 1000)
	long := strings.Repeat("x", 200)
	for i := range 1000 {
		l.Allow(long+strconv.Itoa(i), start)
	}
	before := heap()
	for i := range 1_000_000 { // some find room, most do not
		l.Allow(long+strconv.Itoa(i), start.Add(time.Duration(i)*100*time.Microsecond))
	}
	if after := heap(); after > before+256<<10 || len(l.buckets) > 1000 || l.used.Len() > 1000 {
		t.Errorf("%d bytes after a thousand keys, %d after a million, in %d buckets", before, after, len(l.buckets))
	}
	runtime.KeepAlive(l)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestManyAtOnce(t *testing.T) {
	l := New(1, 50, 8)
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				l.Allow(fmt.Sprint(i), start)
				if ok, _ := l.Allow("one", start); ok {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n > 50 {
		t.Errorf("%d allowed, want at most the burst of 50", n)
	}
}

func TestSource(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "fe80::1%eth0": "fe80::/64",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64", "@": "@", "": "",
	} {
		if got := Source(address); got != want {
			t.Errorf("Source(%q) = %q, want %q", address, got, want)
		}
	}
}

func BenchmarkAllowOneKey(b *testing.B) {
	l := New(1e9, 1000, 1000)
	for b.Loop() {
		l.Allow("127.0.0.1", time.Now())
	}
}

func BenchmarkAllowFlood(b *testing.B) {
	l := New(10, 20, 10_000)
	keys := make([]string, 1<<17)
	for i := range keys {
		keys[i] = fmt.Sprint("10.", i>>16, ".", i>>8&255, ".", i&255)
	}
	i := 0
	for b.Loop() {
		l.Allow(keys[i&(len(keys)-1)], time.Now())
		i++
	}
}
