package sample

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// A town is all that the tools know and change.
type town struct {
	mu     sync.Mutex
	orders []string
	sent   []string
	booked []order
}

var (
	offers = []string{
		"coffee beans, 12.50 EUR, shop.example",
		"desk lamp, 49.00 EUR, shop.example",
		"laptop, 1299.00 EUR, computers.example",
	}
	received = []string{
		"from ann@partner.example: Lunch on Friday?",
		"from news@shop.example: New coffee beans",
	}
	times = []string{"2030-01-07T09:00:00Z", "2030-01-07T10:00:00Z", "2030-01-08T09:00:00Z"}
)

func (t *town) list(text func() string) server.ToolHandlerFunc {
	return func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return mcp.NewToolResultText(text()), nil
	}
}

func (t *town) offers() string { return section("offers", offers) + section("orders", t.orders) }
func (t *town) mail() string   { return section("received", received) + section("sent", t.sent) }

func (t *town) slots() string {
	var free, booked []string
	for _, time := range times {
		if !t.taken(time) {
			free = append(free, time)
		}
	}
	for i, o := range t.booked {
		booked = append(booked, bookingLine(i+1, o))
	}
	return section("free", free) + section("booked", booked)
}

func (t *town) taken(time string) bool {
	return slices.ContainsFunc(t.booked, func(o order) bool { return o["when"] == time })
}

func section(title string, lines []string) string {
	if len(lines) == 0 {
		return title + ": none\n"
	}
	return title + ":\n- " + strings.Join(lines, "\n- ") + "\n"
}

func (t *town) buy(o order) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := fmt.Sprintf("order %d: %s for %s %s from %s", len(t.orders)+1, o["item"], o["price"], o["currency"], o["shop"])
	t.orders = append(t.orders, line)
	return line, nil
}

func (t *town) send(o order) (string, error) {
	if _, err := domainOf(o["to"]); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	line := fmt.Sprintf("mail %d: to %s, %q", len(t.sent)+1, o["to"], o["subject"])
	t.sent = append(t.sent, line)
	return line, nil
}

func (t *town) book(o order) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case o["kind"] != "haircut" && o["kind"] != "medical":
		return "", fmt.Errorf("kind: want haircut or medical, got %.40q", o["kind"])
	case t.taken(o["when"]):
		return "", fmt.Errorf("when: %.40q is taken; list_slots shows what is free", o["when"])
	}
	t.booked = append(t.booked, o)
	return bookingLine(len(t.booked), o), nil
}

func bookingLine(number int, o order) string {
	return fmt.Sprintf("booking %d: %s at %s", number, o["kind"], o["when"])
}
