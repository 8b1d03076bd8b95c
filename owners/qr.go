package owners

import (
	"fmt"
	"image/color"
	"net/url"
	"strings"

	"github.com/boombuler/barcode/qr"

	"github.com/openleash/openleash-go/identity"
)

// factorURI is how authenticator apps take a secret.
func factorURI(name string, secret identity.TOTP) string {
	label := url.PathEscape("OpenLeash:" + name)
	q := url.Values{"secret": {secret.Text()}, "issuer": {"OpenLeash"}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return "otpauth://totp/" + label + "?" + q.Encode()
}

// QR is a QR code.
type QR struct {
	Side int // modules, with the quiet zone
	path string
}

// quiet is the light zone around a code, in modules.
const quiet = 4

func newQR(text string) (QR, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return QR{}, fmt.Errorf("drawing the QR code: %w", err)
	}
	side := code.Bounds().Dx()
	var path strings.Builder
	for y := range side {
		for x := range side {
			if gray := color.GrayModel.Convert(code.At(x, y)).(color.Gray); gray.Y < 128 {
				path.WriteString(moduleAt(x+quiet, y+quiet))
			}
		}
	}
	return QR{side + 2*quiet, path.String()}, nil
}

func moduleAt(x, y int) string { return fmt.Sprintf("M%d %dh1v1h-1z", x, y) }

// SVG draws the code, dark on light in every scheme of colours. It has no style and no
// script, and stands in a page as it is.
func (q QR) SVG() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d" role="img" aria-label="QR code for the authenticator app" shape-rendering="crispEdges">`+
		`<path fill="#fff" d="M0 0h%[1]dv%[1]dh-%[1]dz"/><path fill="#000" d="%[2]s"/></svg>`, q.Side, q.path)
}
