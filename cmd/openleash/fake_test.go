package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/openleash/openleash-go/internal/oauthtest"
	"github.com/openleash/openleash-go/internal/witnesstest"
)

// fakeServer is an MCP server of a few lines, on raw JSON-RPC, with bad manners
// where a script asks for them.
type fakeServer struct {
	pids   string // folder where its processes note their ids
	record string // file that gets a line for each call that arrives
	lists  bool   // it says that its tools may change
	says   string // file with what it lists instead: JSON, the tools
	deaf   bool   // it outlives its input and does not hear signals
}

// fakeMCP is `fakemcp`.
func fakeMCP() {
	var f fakeServer
	loud := flag.Bool("loud", false, "write to stdout what is no protocol, before anything else")
	flag.StringVar(&f.pids, "pids", "", "note process ids in this folder")
	flag.StringVar(&f.record, "record", "", "note calls in this file")
	flag.StringVar(&f.says, "says", "", "list the tools that stand in this file")
	flag.BoolVar(&f.deaf, "deaf", false, "ignore SIGTERM and the end of the input")
	flag.BoolVar(&f.lists, "changing", false, "declare that the list of tools may change; note the handshake too")
	flag.Parse()
	if f.deaf {
		signal.Ignore(syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	}
	notePID(f.pids, "child")
	fmt.Fprintln(os.Stderr, "fake: hello")
	if *loud {
		fmt.Println("Welcome to the fake server!")
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		f.handle(in.Bytes())
	}
	if f.deaf {
		time.Sleep(10 * time.Minute)
	}
}

func notePID(dir, name string) {
	if dir == "" {
		return
	}
	file := filepath.Join(dir, name)
	must(os.WriteFile(file+".new", fmt.Appendf(nil, "%d", os.Getpid()), 0o600))
	must(os.Rename(file+".new", file))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake:", err)
		os.Exit(4)
	}
}

var fakeTools = []string{"echo", "env", "die", "hang", "fork", "garbage", "hold", "hold_env", "forbidden", "big", "shell", "browse", "write"}

func (f *fakeServer) handle(line []byte) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params json.RawMessage
	}
	must(json.Unmarshal(line, &m))
	switch m.Method {
	case "initialize":
		if f.lists {
			f.note([]byte("initialize " + string(m.Params)))
		}
		f.result(m.ID, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":`+strconv.FormatBool(f.lists)+`}},"serverInfo":{"name":"fake","version":"1"}}`)
	case "tools/list":
		if f.says != "" {
			said, err := os.ReadFile(f.says)
			must(err)
			f.result(m.ID, `{"tools":[`+strings.TrimSpace(string(said))+`]}`)
			return
		}
		var tools []string
		for _, name := range fakeTools {
			tools = append(tools, `{"name":"`+name+`","inputSchema":{"type":"object"}}`)
		}
		f.result(m.ID, `{"tools":[`+strings.Join(tools, ",")+`]}`)
	case "tools/call":
		f.call(m.ID, m.Params)
	case "notifications/initialized":
		if f.lists {
			f.note([]byte("it is initialized"))
		}
	default:
		if len(m.ID) > 0 {
			f.result(m.ID, "{}")
		}
	}
}

func (f *fakeServer) call(id, params json.RawMessage) {
	var p struct{ Name string }
	must(json.Unmarshal(params, &p))
	f.note(params)
	switch p.Name {
	case "die":
		fmt.Fprintln(os.Stderr, "fake: I was told to die")
		os.Exit(3)
	case "hang":
		return
	case "fork":
		must(exec.Command("sleeper", f.pids).Start())
		for f.missing("grandchild") {
			time.Sleep(5 * time.Millisecond)
		}
	case "garbage":
		fmt.Println("this is no JSON {")
	case "env":
		env := os.Environ()
		slices.Sort(env)
		f.text(id, strings.Join(env, "\n"))
		return
	case "big":
		var big struct{ Arguments struct{ Bytes int } }
		must(json.Unmarshal(params, &big))
		f.text(id, strings.Repeat("x", big.Arguments.Bytes))
		return
	case "shell", "browse", "write":
		f.text(id, reach(p.Name, params))
		return
	case "echo", "hold", "forbidden":
	default:
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"fake: unknown tool %s"}}`+"\n", id, p.Name)
		return
	}
	f.text(id, string(params))
}

// reach does what servers for files, browsers and shells do.
func reach(tool string, params json.RawMessage) string {
	var p struct {
		Arguments struct{ Script, Method, URL, Form, Path, Text string }
	}
	must(json.Unmarshal(params, &p))
	a := p.Arguments
	switch tool {
	case "shell":
		out, err := exec.Command("sh", "-c", a.Script).CombinedOutput()
		return fmt.Sprintf("%s(%v)", out, err)
	case "write":
		return fmt.Sprint(os.WriteFile(a.Path, []byte(a.Text), 0o600))
	}
	req, err := http.NewRequest(a.Method, a.URL, strings.NewReader(a.Form))
	must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(err)
	return fmt.Sprintf("%s\n%s", res.Status, body)
}

func (f *fakeServer) missing(name string) bool {
	_, err := os.Stat(filepath.Join(f.pids, name))
	return err != nil
}

// note keeps a call where a script finds it, whatever becomes of this process.
func (f *fakeServer) note(params []byte) {
	if f.record == "" {
		return
	}
	file, err := os.OpenFile(f.record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(err)
	_, err = fmt.Fprintf(file, "\n%s\n", params) // first a newline: the line before may be torn
	must(err)
	must(file.Close())
}

func (f *fakeServer) text(id json.RawMessage, text string) {
	quoted, err := json.Marshal(text)
	must(err)
	f.result(id, `{"content":[{"type":"text","text":`+string(quoted)+`}]}`)
}

func (f *fakeServer) result(id json.RawMessage, result string) {
	fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", id, result)
}

// sleeper is a process that a server has started: it hears nothing and stays.
func sleeper() {
	signal.Ignore(syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	notePID(os.Args[1], "grandchild")
	time.Sleep(5 * time.Minute)
}

// squatter is another program on our port: it speaks something else.
func squatter() {
	l, err := net.Listen("tcp", os.Args[1])
	must(err)
	fmt.Println("squatting")
	for {
		c, err := l.Accept()
		must(err)
		fmt.Fprint(c, "220 mail.example ESMTP\r\n")
		c.Close()
	}
}

// get prints what is at an address, for `until`.
func get() {
	resp, err := http.Get(os.Args[1])
	must(err)
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	_, err = io.Copy(os.Stdout, resp.Body)
	must(err)
}

// keeper is somebody who keeps checkpoints: it prints its address and, for each that is
// posted, what came with it, and appends them to a file.
func keeper() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Printf("http://%s\n", l.Addr())
	must(http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		must(err)
		_, err = io.Copy(f, r.Body)
		must(err)
		_, err = f.WriteString("\n")
		must(errors.Join(err, f.Close()))
		fmt.Println(r.Method, r.URL.Path, r.Header.Get("Authorization"))
	})))
}

// cosigns is a witness (c2sp.org/tlog-witness): it prints its public key and its address,
// and knows the logs whose keys it is given, a line each.
func cosigns() {
	w := witnesstest.New("witness.example/w1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Printf("%s\nhttp://%s\n", w.Key(), l.Addr())
	go http.Serve(l, w) //nolint:errcheck // it ends with us
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		must(w.Know(in.Text()))
		fmt.Println("known")
	}
}

// authServer is a server that wants a login, with its authorization server; the
// arguments are its quirks.
func authServer() {
	s, err := oauthtest.Start()
	must(err)
	for _, quirk := range os.Args[1:] {
		s.Quirk(quirk, true)
	}
	fmt.Println(s.URL)
	io.Copy(io.Discard, os.Stdin)
}

// consent is a person with a browser: it consents, and comes back to where it is sent.
func consent() {
	resp, err := http.Get(os.Args[1])
	must(err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	must(err)
	fmt.Printf("%d\n%s", resp.StatusCode, page)
}
