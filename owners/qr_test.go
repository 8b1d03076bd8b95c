package owners

import (
	"regexp"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/identity"
)

// The QR code is drawn whole, dark on light, with its quiet zone, and nothing in it is
// style or script.
func TestQR(t *testing.T) {
	uri := factorURI(`Bo Ek/å?&"<`, identity.TOTP{Secret: []byte("12345678901234567890")})
	const want = `otpauth://totp/OpenLeash:Bo%20Ek%2F%C3%A5%3F&%22%3C?algorithm=SHA1&digits=6&issuer=OpenLeash&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ`
	if uri != want {
		t.Errorf("uri = %s, want %s", uri, want)
	}
	code, err := newQR(uri)
	if err != nil {
		t.Fatal(err)
	}
	svg := code.SVG()
	if regexp.MustCompile(`style|script|href|on[a-z]+=`).MatchString(svg) || strings.Contains(svg, "secret") {
		t.Errorf("there is more in the drawing than modules: %.200s", svg)
	}
	last := code.Side - quiet - 1
	for _, corner := range [][2]int{{quiet, quiet}, {last, quiet}, {quiet, last}} { // the finder patterns
		if !strings.Contains(svg, moduleAt(corner[0], corner[1])) {
			t.Errorf("no module at %v", corner)
		}
	}
	for _, light := range [][2]int{{quiet - 1, quiet}, {last + 1, quiet}, {quiet + 1, quiet + 1}} {
		if strings.Contains(svg, moduleAt(light[0], light[1])) {
			t.Errorf("a module at %v", light)
		}
	}
	if _, err := newQR(strings.Repeat("x", 5000)); err == nil {
		t.Error("what is too long for a QR code is an error")
	}
}
