// Package sample is the upstream of the demo: one MCP server with the tools of
// a shop (list_offers, buy), a mailbox (list_mail, send_mail) and a clinic
// (list_slots, book). What is ordered, sent and booked lives in memory and is
// told in the results, so that a reader sees what really happened.
//
// With keys it believes nobody: each tool that changes something first verifies
// the proof that came in the call's _meta under "ai.openleash/proof", with
// nothing but the public keys. The proof must be for this server, for the
// counterparty that it is about (the shop of buy, the domain of send_mail, else
// "mcp:" and the server's name), for exactly the arguments that arrived, and
// new: a proof is spent by its first use.
package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

// Config is what the server is made of.
type Config struct {
	// Name is what the proxy calls this server. If empty, "sample".
	Name string
	// Keys returns the public keys that are trusted; it is asked for each call.
	// If nil, the tools work for anyone, without a proof.
	Keys func() ([]proof.PublicKey, error)
}

// New makes the server.
func New(c Config) *server.MCPServer {
	if c.Name == "" {
		c.Name = "sample"
	}
	town := &town{}
	gate := &verifier{name: c.Name, keys: c.Keys}
	s := server.NewMCPServer("openleash-sample", "1.0.0", server.WithToolCapabilities(false))
	s.AddTool(readTool("list_offers", "Lists what the shops sell, and the orders so far."), town.list(town.offers))
	s.AddTool(readTool("list_mail", "Lists the mails that came in and the mails that were sent."), town.list(town.mail))
	s.AddTool(readTool("list_slots", "Lists the free times of the clinic, and what is booked."), town.list(town.slots))
	s.AddTool(mcp.NewTool("buy", mcp.WithDescription("Buys an item from a shop. It is paid at once."),
		mcp.WithDestructiveHintAnnotation(true),
		mcp.WithString("item", mcp.Required(), mcp.Description("what to buy")),
		mcp.WithNumber("price", mcp.Required(), mcp.Description("what it costs, such as 12.50")),
		mcp.WithString("currency", mcp.Required(), mcp.Description("ISO 4217, such as EUR")),
		mcp.WithString("shop", mcp.Required(), mcp.Description("the domain of the shop")),
	), gate.guard(purchase, town.buy))
	s.AddTool(mcp.NewTool("send_mail", mcp.WithDescription("Sends a mail."),
		mcp.WithDestructiveHintAnnotation(true),
		mcp.WithString("to", mcp.Required(), mcp.Description("one address")),
		mcp.WithString("subject", mcp.Required()),
		mcp.WithString("body", mcp.Required()),
	), gate.guard(letter, town.send))
	s.AddTool(mcp.NewTool("book", mcp.WithDescription("Books an appointment."),
		mcp.WithDestructiveHintAnnotation(false),
		mcp.WithString("kind", mcp.Required(), mcp.Enum("haircut", "medical")),
		mcp.WithString("when", mcp.Required(), mcp.Description("the time of a free slot")),
	), gate.guard(appointment, town.book))
	return s
}

// ServeStdio runs the server on a pair of streams until in ends, which is no
// error, or ctx does. What mcp-go has to complain about goes to logs.
func ServeStdio(ctx context.Context, in io.Reader, out, logs io.Writer, c Config) error {
	s := server.NewStdioServer(New(c))
	s.SetErrorLogger(log.New(logs, "sample-server: ", 0))
	if err := s.Listen(ctx, in, out); err != nil && err != io.EOF && ctx.Err() == nil {
		return fmt.Errorf("sample server: %w", err)
	}
	return nil
}

func readTool(name, description string) mcp.Tool {
	return mcp.NewTool(name, mcp.WithDescription(description), mcp.WithReadOnlyHintAnnotation(true), mcp.WithDestructiveHintAnnotation(false))
}

// An order is a call of a tool that changes something: its arguments, as text.
type order map[string]string

// A form says which arguments a tool takes, and for whom its proof must be.
type form struct {
	fields   []string
	audience func(o order) (string, error) // nil: this server
}

var (
	purchase    = form{[]string{"item", "price", "currency", "shop"}, func(o order) (string, error) { return o["shop"], nil }}
	letter      = form{[]string{"to", "subject", "body"}, func(o order) (string, error) { return domainOf(o["to"]) }}
	appointment = form{fields: []string{"kind", "when"}}
)

// domainOf takes only the plainest addresses: this mailbox sends nothing else.
func domainOf(address string) (string, error) {
	local, domain, found := strings.Cut(address, "@")
	if !found || local == "" || domain == "" || strings.ContainsAny(address, "\"<>()[],;:\\ \t\r\n") || strings.Contains(domain, "@") {
		return "", fmt.Errorf("to: want one address like ann@example.com, got %.80q", address)
	}
	return strings.ToLower(domain), nil
}

// read takes the fields out of the arguments. Every one must be there, and none
// besides them: what is not understood is not carried out.
func (f form) read(arguments action.Value) (order, error) {
	o := make(order)
	for key, v := range arguments.Members() {
		if v.Kind() != action.String && v.Kind() != action.Number {
			return nil, fmt.Errorf("%s: want a text or a number, got %s", key, v.Kind())
		}
		o[key] = v.Text()
	}
	for _, field := range f.fields {
		if o[field] == "" {
			return nil, fmt.Errorf("%s is missing; this tool takes %s", field, strings.Join(f.fields, ", "))
		}
	}
	if len(o) != len(f.fields) {
		return nil, fmt.Errorf("got %d arguments; this tool takes %s and nothing else", len(o), strings.Join(f.fields, ", "))
	}
	return o, nil
}

// argumentsOf parses the arguments from the bytes that arrived: mcp-go keeps
// them beside its own reading, which loses how numbers were written.
func argumentsOf(call mcp.CallToolRequest) (action.Value, error) {
	raw, ok := call.GetRawArguments().(json.RawMessage)
	if !ok {
		return action.Value{}, fmt.Errorf("arguments: want an object")
	}
	v, err := action.Parse(raw, action.Limits{})
	if err == nil && v.Kind() != action.Object {
		err = fmt.Errorf("arguments: want an object, got %s", v.Kind())
	}
	return v, err
}
