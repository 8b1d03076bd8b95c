//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What hosts do by themselves when a call is held for long: they are started as
// their users start them, and every limit is their own.

// patient is an installation in front of the sample server, whose sending of mail is
// held for that long, and what has reached the server.
func patient(t *testing.T, hold string) (h *home, wire string) {
	t.Helper()
	dir := t.TempDir()
	wire = filepath.Join(dir, "wire")
	h = newHomeThatHolds(t, filepath.Join(dir, "openleash"), mailPolicy, hold,
		map[string]any{"mail": stdioServer(recorded(t, wire, []string{openleash, "sample-server"}))})
	return h, wire
}

const mailPolicy = `version: 1
default: allow
rules:
  - id: ask-before-sending
    effect: allow
    action: mcp.mail.send_mail
    obligations: [{type: HUMAN_APPROVAL}]
`

func mail(text string) map[string]any {
	return map[string]any{"to": "ann@example.com", "subject": "Lunch", "body": text}
}

// sent checks how often mail has reached the server.
func sent(t *testing.T, wire string, want int) {
	t.Helper()
	if got := len(calls(t, wire, "send_mail")); got != want {
		t.Errorf("%d mails reached the server, want %d", got, want)
	}
}

// TestHeldWithinOneCall: the owner takes 75 s, and the host waits for that in one
// call: told so on its command line; or because it is sent away in time, and comes
// back by itself.
func TestHeldWithinOneCall(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		host host
		door door
		hold string
		more []string
	}{
		"mcporter --timeout":      {hosts[0], doors[0], "110s", []string{"--timeout", "120000"}},
		"inspector modern, http":  {hosts[1], doors[1], "50s", []string{"--protocol-era", "modern"}},
		"inspector modern, stdio": {hosts[1], doors[0], "50s", []string{"--protocol-era", "modern"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, wire := patient(t, tt.hold)
			s := way{tt.host, tt.door}.session(t, h, "mail")
			done := make(chan answer, 1)
			cmd := s.command(t, append(tt.host.call(s.config, "send_mail", encode(t, mail(name))), tt.more...))
			began := time.Now()
			go func() { done <- finish(cmd) }()
			request := h.held(t, "send_mail", done)
			time.Sleep(time.Until(began.Add(75 * time.Second)))
			sent(t, wire, 0)
			h.run(t, "approvals", "approve", request.ID)
			got := <-done
			if got.failed || strings.Contains(got.out, "isError\": true") || !strings.Contains(got.out, "ann@example.com") {
				t.Errorf("after %v: %s", got.took, got.out)
			}
			sent(t, wire, 1)
			h.log(t)
		})
	}
}

// TestHeldTooLong: the host gives up at its own limit, before the owner answers. The
// answer runs nothing then; the same call again runs once.
func TestHeldTooLong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		host host
		door door
		more []string
	}{
		"mcporter, http":   {hosts[0], doors[1], nil},
		"inspector":        {hosts[1], doors[0], nil},
		"inspector modern": {hosts[1], doors[1], []string{"--protocol-era", "modern"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, wire := patient(t, "4m")
			s := way{tt.host, tt.door}.session(t, h, "mail")
			args := append(tt.host.call(s.config, "send_mail", encode(t, mail(name))), tt.more...)
			done := make(chan answer, 1)
			cmd := s.command(t, args)
			go func() { done <- finish(cmd) }()
			request := h.held(t, "send_mail", done)
			if got := <-done; !got.failed || got.took < 55*time.Second || got.took > 90*time.Second {
				t.Fatalf("want a host that gives up after a minute, got after %v\n%s", got.took, got.out)
			}
			h.run(t, "approvals", "approve", request.ID)
			time.Sleep(3 * time.Second) // time enough for a call that must not come
			sent(t, wire, 0)
			if got := s.run(t, args); got.failed || !strings.Contains(got.out, "ann@example.com") {
				t.Errorf("the same call after the approval: %s", got.out)
			}
			sent(t, wire, 1)
			h.log(t)
		})
	}
}

// TestSentAway: the host is answered before it gives up, as the wait is set by
// default, and the call that it is told to repeat runs once.
func TestSentAway(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]way{"mcporter": {hosts[0], doors[0]}, "mcporter, sse": {hosts[0], doors[2]}, "inspector": {hosts[1], doors[1]}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, wire := patient(t, "50s")
			s := w.session(t, h, "mail")
			done := s.begin(t, "send_mail", mail(name))
			request := h.held(t, "send_mail", done)
			got := <-done
			if got.took < 45*time.Second || got.took > 60*time.Second {
				t.Errorf("it was answered after %v, want 50 s", got.took)
			}
			for _, want := range []string{"APPROVAL_REQUIRED", "again now with exactly these arguments", "ann@example.com", request.ID} {
				if !strings.Contains(got.out, want) {
					t.Errorf("the answer does not say %q:\n%s", want, got.out)
				}
			}
			h.run(t, "approvals", "approve", request.ID)
			sent(t, wire, 0)
			if got := s.call(t, "send_mail", mail(name)); got.failed || !strings.Contains(got.out, "ann@example.com") {
				t.Errorf("the same call after the approval: %s", got.out)
			}
			sent(t, wire, 1)
			h.log(t)
		})
	}
}

// TestOpenclawPatience: in one turn of an agent the call is held until openclaw gives
// up. The model hears that, and calls again; then it is done, once.
func TestOpenclawPatience(t *testing.T) {
	t.Parallel()
	h, wire := patient(t, "4m")
	model := newModel(t, "s__send_mail", encode(t, mail("from a turn")))
	model.insists = 2
	cmd := openclawTurn(t, model, h.http(t, "mail"))
	done := make(chan answer, 1)
	go func() { done <- finish(cmd) }()
	request := h.held(t, "send_mail", done)
	waitFor(t, "openclaw to give up and the model to call again", func() bool { return model.attempts() > 1 })
	sent(t, wire, 0)
	h.run(t, "approvals", "approve", request.ID)
	checkTurn(t, <-done, model, "ann@example.com")
	sent(t, wire, 1)
	h.log(t)
}
