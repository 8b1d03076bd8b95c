// Package ratelimit bounds how often each of many callers may do something: a
// token bucket (golang.org/x/time/rate) for every key, an address or an agent.
//
// A Limiter promises, whoever calls and however often:
//
//   - A key is allowed burst times at once, and perSecond times a second after.
//   - The memory is bounded: at most maxKeys buckets, of one size whatever the length
//     of the keys. A bucket that is full again is the same as none, so it gives way.
//   - When all buckets are in use, the keys that have none share one more. So a flood
//     from many addresses is bounded in all, wins nobody a fresh burst, and takes
//     nothing from those who were there before.
//
// It is a bound on work, not a lock: it forgets at a restart, and every process has
// its own.
package ratelimit

import (
	"container/list"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// longestWait is what is said at most: also of a bucket that never fills.
const longestWait = time.Hour

// A Limiter may be used by many at once.
type Limiter struct {
	limit   rate.Limit
	burst   int
	maxKeys int
	shared  *rate.Limiter // of the keys for which there is no room

	mu      sync.Mutex
	buckets map[[sha256.Size]byte]*list.Element // guarded by mu
	used    *list.List                          // guarded by mu: of *bucket, the least lately used first
}

type bucket struct {
	key    [sha256.Size]byte
	tokens *rate.Limiter
	taken  time.Time // when the last token was
}

// New returns a Limiter that allows every key perSecond times a second, and burst
// times at once, for at most maxKeys keys at a time. Without a burst it allows nothing.
func New(perSecond float64, burst int, maxKeys int) *Limiter {
	limit := rate.Limit(max(perSecond, 0))
	return &Limiter{
		limit: limit, burst: burst, maxKeys: maxKeys, shared: rate.NewLimiter(limit, burst),
		buckets: map[[sha256.Size]byte]*list.Element{}, used: list.New(),
	}
}

// Allow reports whether key may now; if not, after what time it may. Being refused
// costs nothing.
func (l *Limiter) Allow(key string, now time.Time) (ok bool, retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketOf(sha256.Sum256([]byte(key)), now)
	if b == nil {
		return l.take(l.shared, now)
	}
	if ok, retryAfter = l.take(b.tokens, now); ok {
		b.taken = now
		l.used.MoveToBack(l.buckets[b.key])
	}
	return ok, retryAfter
}

func (l *Limiter) take(tokens *rate.Limiter, now time.Time) (bool, time.Duration) {
	if tokens.AllowN(now, 1) {
		return true, 0
	}
	seconds := (1 - tokens.TokensAt(now)) / float64(l.limit) // +Inf without a rate
	if seconds > longestWait.Seconds() {
		return false, longestWait
	}
	return false, max(time.Duration(seconds*float64(time.Second)), time.Millisecond)
}

// bucketOf is nil when key has none and there is no room.
func (l *Limiter) bucketOf(key [sha256.Size]byte, now time.Time) *bucket {
	if e := l.buckets[key]; e != nil {
		return e.Value.(*bucket)
	}
	if len(l.buckets) >= l.maxKeys && !l.makeRoom(now) {
		return nil
	}
	b := &bucket{key: key, tokens: rate.NewLimiter(l.limit, l.burst), taken: now}
	l.buckets[key] = l.used.PushBack(b)
	return b
}

// makeRoom drops the bucket that was used least lately, if it must be full again.
func (l *Limiter) makeRoom(now time.Time) bool {
	oldest := l.used.Front()
	if oldest == nil {
		return false
	}
	b := oldest.Value.(*bucket)
	if now.Sub(b.taken).Seconds()*float64(l.limit) < float64(l.burst) {
		return false
	}
	l.used.Remove(oldest)
	delete(l.buckets, b.key)
	return true
}

// Source is the key of an address: the address, or of IPv6 its /64, which is what one
// caller has at least.
func Source(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String()
}
