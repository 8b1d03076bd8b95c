package proxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

type plainEvent struct {
	Raw, Data, ID string
	HasData       bool
	Retry         time.Duration
}

func readEvents(r io.Reader, max int) (events []plainEvent, err error) {
	in := newSSEReader(r, max)
	for {
		e, err := in.next()
		if err != nil {
			return events, err
		}
		events = append(events, plainEvent{string(e.raw), string(e.data), e.id, e.data != nil, e.retry})
	}
}

func TestSSEReader(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []plainEvent
	}{
		{"one", "data: {}\n\n", []plainEvent{{Raw: "data: {}\n\n", Data: "{}", HasData: true}}},
		{"no space", "data:{}\n\n", []plainEvent{{Raw: "data:{}\n\n", Data: "{}", HasData: true}}},
		{"two spaces keep one", "data:  x\n\n", []plainEvent{{Raw: "data:  x\n\n", Data: " x", HasData: true}}},
		{"crlf", "id: 7\r\ndata: {}\r\n\r\n", []plainEvent{
			{Raw: "id: 7\r\ndata: {}\r\n\r", Data: "{}", ID: "7", HasData: true}}},
		{"cr", "data: a\rdata: b\r\rdata: c\r\r", []plainEvent{
			{Raw: "data: a\rdata: b\r\r", Data: "a\nb", HasData: true}, {Raw: "data: c\r\r", Data: "c", HasData: true}}},
		{"priming", "id: p\nretry: 500\ndata:\n\n", []plainEvent{
			{Raw: "id: p\nretry: 500\ndata:\n\n", ID: "p", HasData: true, Retry: 500 * time.Millisecond}}},
		{"comment comes alone", ": hi\ndata: 1\n\n", []plainEvent{{Raw: ": hi\n"}, {Raw: "data: 1\n\n", Data: "1", HasData: true}}},
		{"comment inside", "data: 1\n: hi\ndata: 2\n\n", []plainEvent{{Raw: "data: 1\n: hi\ndata: 2\n\n", Data: "1\n2", HasData: true}}},
		{"byte-order mark", "\xef\xbb\xbfdata: 1\n\n", []plainEvent{{Raw: "\xef\xbb\xbfdata: 1\n\n", Data: "1", HasData: true}}},
		{"unknown fields stay", "event: message\nx: y\ndata\n\n", []plainEvent{{Raw: "event: message\nx: y\ndata\n\n", HasData: true}}},
		{"id with NUL is none", "id: a\x00\ndata: 1\n\n", []plainEvent{{Raw: "id: a\x00\ndata: 1\n\n", Data: "1", HasData: true}}},
		{"cut off", "data: 1\n\ndata: 2\n", []plainEvent{{Raw: "data: 1\n\n", Data: "1", HasData: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readEvents(strings.NewReader(tt.in), 1<<10)
			if err != io.EOF {
				t.Errorf("error: got %v, want EOF", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSSEReaderGivesAnEventWhenItIsComplete(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	in := newSSEReader(r, 1<<10)
	for _, text := range []string{"data: 1\n\n", ": keep-alive\n", "data: 2\r\r", "\ndata: 3\r\n\r"} {
		go io.WriteString(w, text)
		e, err := in.next()
		if err != nil || string(e.raw) != text {
			t.Fatalf("got %q, %v; want %q at once", e.raw, err, text)
		}
	}
}

func TestSSEReaderLimit(t *testing.T) {
	for _, in := range []string{"data: " + strings.Repeat("x", 100), strings.Repeat("data: x\n", 20)} {
		if _, err := readEvents(strings.NewReader(in), 64); !errors.Is(err, errEventTooLong) {
			t.Errorf("%.20q…: got %v, want errEventTooLong", in, err)
		}
	}
}

func TestWithData(t *testing.T) {
	in := newSSEReader(strings.NewReader(": c\nevent: message\r\nid: 4\r\ndata: {\r\ndata: }\r\nretry: 5\r\n\r\n"), 1<<10)
	in.next() // the comment
	e, err := in.next()
	if err != nil {
		t.Fatal(err)
	}
	want := "event: message\nid: 4\nretry: 5\ndata: {\"a\":\ndata: 1}\n\n"
	if got := string(e.withData([]byte("{\"a\":\r\n1}"))); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzSSE holds two laws: what is read does not depend on how it arrives, and
// the bytes of the events together are the stream, less a cut-off end.
func FuzzSSE(f *testing.F) {
	for _, s := range []string{"data: 1\n\n", "\xef\xbb\xbfid: a\r\ndata: b\rdata\r\n\r\n\r\r\n", ":\n\n\n: x\rdata:\n\rretry: 10\n\n", "data: a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, err := readEvents(bytes.NewReader(stream), 1<<20)
		if err != io.EOF {
			t.Fatalf("got %v", err)
		}
		slow, _ := readEvents(iotest.OneByteReader(bytes.NewReader(stream)), 1<<20)
		if diff := cmp.Diff(whole, slow); diff != "" {
			t.Fatalf("byte by byte it reads otherwise:\n%s", diff)
		}
		var all string
		for _, e := range whole {
			all += e.Raw
		}
		if !strings.HasPrefix(string(stream), all) {
			t.Fatalf("the events are not the stream: %q of %q", all, stream)
		}
		for _, e := range whole {
			if !e.HasData {
				continue
			}
			again, _ := readEvents(bytes.NewReader(appendData(nil, []byte(e.Data))), 1<<20)
			if len(again) != 1 || again[0].Data != e.Data {
				t.Fatalf("data %q written and read: %+v", e.Data, again)
			}
		}
	})
}
