package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// a way is one path through OpenLeash to the server that is called directly.
type way struct {
	name   string
	except string // a scenario that cannot pass this way, and why
	why    string
	entry  func(l *lab, directURL string, flags []string) (entry, error)
}

// without leaves out what cannot pass this way.
func (w way) without(all results) results {
	rest := maps.Clone(all)
	delete(rest, w.except)
	return rest
}

// ways lead from a host over HTTP to the server. The suite speaks HTTP only, so a
// host over stdio is an OpenLeash of its own, in front of the one that is tried.
var ways = []way{
	{name: "http to http", entry: func(_ *lab, url string, _ []string) (entry, error) {
		return entry{"url": url}, nil
	}},
	{name: "http to stdio", except: "server-sse-polling", why: "a stdio server cannot close a stream and have it resumed", entry: func(l *lab, _ string, _ []string) (entry, error) {
		return entry{"command": l.server}, nil
	}},
	{name: "stdio to http", except: "server-sse-polling", why: "a stdio host has no streams", entry: func(l *lab, url string, _ []string) (entry, error) {
		s, err := l.home(entry{"up": entry{"url": url}})
		if err != nil {
			return nil, err
		}
		return entry{"command": l.openleash, "args": []string{"stdio", "up"}, "env": entry{"OPENLEASH_HOME": s.dir}}, nil
	}},
	{name: "stdio to stdio", except: "server-sse-polling", why: "a stdio server cannot close a stream and have it resumed", entry: func(l *lab, _ string, _ []string) (entry, error) {
		s, err := l.home(entry{})
		if err != nil {
			return nil, err
		}
		return entry{"command": l.openleash, "args": []string{"stdio", "--name", "up", "--", l.server}, "env": entry{"OPENLEASH_HOME": s.dir}}, nil
	}},
	{name: "http to sse", except: "server-sse-polling", why: "a stream of the older transport cannot be resumed", entry: func(l *lab, url string, _ []string) (entry, error) {
		far, err := l.leash(entry{"url": url})
		if err != nil {
			return nil, err
		}
		return entry{"type": "sse", "url": "http://" + far.addr + "/sse/up", "headers": entry{"Authorization": "Bearer " + far.token}}, nil
	}},
	{name: "connect", except: "server-sse-polling", why: "a stdio host has no streams", entry: func(l *lab, url string, _ []string) (entry, error) {
		far, err := l.leash(entry{"url": url})
		if err != nil {
			return nil, err
		}
		return entry{"command": l.openleash, "args": []string{"connect", "http://" + far.addr + "/mcp/up"}, "env": entry{"OPENLEASH_TOKEN": far.token}}, nil
	}},
}

// revisions are the suite's frozen sets, how the reference server serves them
// over HTTP, and how many scenarios it passes: with fewer the comparison would
// say less than it seems to. Of 2026-07-28 ten are an extension that it lacks.
var revisions = []struct {
	name  string
	flags []string
	want  int
}{
	{"2025-11-25", []string{"-stateless=false"}, 33},
	{"2026-07-28", nil, 40},
}

const wantClients = 13

// compareAll runs everything and prints it. It counts what got worse.
func (l *lab) compareAll(only string) (worse int, err error) {
	for _, revision := range revisions {
		n, err := l.compareServers(revision.name, revision.flags, revision.want, only)
		if err != nil {
			return worse, err
		}
		worse += n
	}
	if strings.Contains("client", only) {
		n, err := l.compareClients()
		if err != nil {
			return worse, err
		}
		worse += n
	}
	if strings.Contains("login", only) {
		n, err := l.loginScenarios()
		if err != nil {
			return worse, err
		}
		worse += n
	}
	return worse, nil
}

func (l *lab) compareServers(revision string, flags []string, want int, only string) (worse int, err error) {
	url, err := l.everything(flags...)
	if err != nil {
		return 0, err
	}
	direct, err := l.servers(url, revision)
	if err == nil {
		err = reference(revision, direct, want)
	}
	if err != nil {
		return 0, err
	}
	for _, w := range ways {
		if !strings.Contains(w.name, only) {
			continue
		}
		up, err := w.entry(l, url, flags)
		if err != nil {
			return worse, err
		}
		through, err := l.through(up, revision)
		if err != nil {
			return worse, err
		}
		if _, there := direct[w.except]; there {
			delete(through, w.except)
			fmt.Printf("%s, %s: not compared: %s, since %s\n", revision, w.name, w.except, w.why)
		}
		worse += report(revision+", "+w.name, w.without(direct), through)
	}
	return worse, nil
}

// through runs the server scenarios through a leash in front of up.
func (l *lab) through(up entry, revision string) (results, error) {
	s, err := l.leash(up)
	if err != nil {
		return nil, err
	}
	url, err := l.front(s)
	if err != nil {
		return nil, err
	}
	return l.servers(url, revision)
}

func (l *lab) compareClients() (worse int, err error) {
	direct, err := l.clientScenarios(l.client)
	if err == nil {
		err = reference("client", direct, wantClients)
	}
	if err != nil {
		return 0, err
	}
	command, err := l.throughLeash()
	if err != nil {
		return 0, err
	}
	through, err := l.clientScenarios(command)
	if err != nil {
		return 0, err
	}
	return report("client, http to http", direct, through), nil
}

// reference prints how the reference does directly, and refuses one that does
// worse than it can.
func reference(name string, direct results, want int) error {
	fmt.Printf("%s, directly: %s\n", name, tally(direct))
	if got := good(direct); got < want {
		return fmt.Errorf("%s: the reference passes %d scenarios directly, want %d: nothing can be measured against it; is the machine very busy?", name, got, want)
	}
	return nil
}

func good(r results) (n int) {
	for _, checks := range r {
		if passes(checks) {
			n++
		}
	}
	return n
}

func tally(r results) string { return fmt.Sprintf("%d of %d scenarios pass", good(r), len(r)) }

// report prints what differs and counts the checks that pass directly only.
func report(name string, direct, through results) (worse int) {
	fmt.Printf("%s: %s\n", name, tally(through))
	for _, scenario := range slices.Sorted(maps.Keys(direct)) {
		worse += reportScenario(scenario, direct[scenario], through[scenario])
	}
	return worse
}

func reportScenario(scenario string, direct, through []check) (worse int) {
	was, is := count(direct, "SUCCESS"), count(through, "SUCCESS", "INFO")
	for _, id := range slices.Sorted(maps.Keys(was)) {
		if lost := was[id] - is[id]; lost > 0 {
			worse += lost
			fmt.Printf("  - %s: %s passes %d times directly, %d times through%s\n", scenario, id, was[id], is[id], reasons(id, through))
		}
	}
	if worse == 0 && passes(direct) && !passes(through) { // something new fails
		worse++
		fmt.Printf("  - %s: fails%s\n", scenario, reasons("", through))
	}
	return worse
}

// count counts the checks of these statuses by their id. INFO is the suite's word
// for another answer that is as good, such as JSON in place of a stream.
func count(checks []check, statuses ...string) map[string]int {
	n := map[string]int{}
	for _, c := range checks {
		if slices.Contains(statuses, c.Status) {
			n[c.ID]++
		}
	}
	return n
}

// reasons are what the suite says of failures, of one check or of all.
func reasons(id string, checks []check) string {
	said := ""
	for _, c := range checks {
		if (id == "" || c.ID == id) && c.Status != "SUCCESS" && c.Status != "INFO" {
			said += fmt.Sprintf("\n      %s %s: %s", c.Status, c.ID, c.ErrorMessage)
		}
	}
	return said
}
