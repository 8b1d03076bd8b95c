package door

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// ErrUnknownToken is a lookup's answer for a token that nobody has.
var ErrUnknownToken = errors.New("unknown token")

// The codes of requests that Bearer refuses.
const (
	MissingToken = "MISSING_TOKEN" // none, two, or one that cannot be read
	InvalidToken = "INVALID_TOKEN" // one that nobody has
)

// maxToken bounds what is looked up at all.
const maxToken = 256

// Bearer lets a request through whose Authorization header carries a token
// that lookup knows. lookup returns the context in which next runs: it puts the
// caller there. A lookup that fails otherwise refuses with 503. failed is told
// why, without the token; nil: nobody is. refused is told of every request that is
// refused for its token, before it is answered, with the code of the answer.
func Bearer(lookup func(ctx context.Context, token string) (context.Context, error), failed func(error), refused func(r *http.Request, code string), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := bearerToken(r.Header.Values("Authorization"))
		if !ok {
			refused(r, MissingToken)
			unauthorized(w, `Bearer realm="openleash"`, MissingToken,
				"Send the agent's token: Authorization: Bearer ola_…. `openleash agents token NAME` makes one.")
			return
		}
		ctx, err := lookup(r.Context(), token)
		switch {
		case errors.Is(err, ErrUnknownToken):
			refused(r, InvalidToken)
			unauthorized(w, `Bearer realm="openleash", error="invalid_token"`, InvalidToken,
				"This token is not, or no longer, an agent's. `openleash agents token NAME` makes a new one.")
		case err != nil:
			if failed != nil {
				failed(err)
			}
			JSONError(w, http.StatusServiceUnavailable, "STORE_UNAVAILABLE", "The token cannot be checked at present.")
		default:
			next.ServeHTTP(w, withoutToken(r.WithContext(ctx)))
		}
	})
}

// bearerToken reads exactly one header of the form "Bearer TOKEN".
func bearerToken(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return "", false
	}
	return token, true
}

// withoutToken takes the token off, so that nothing behind can log or forward it.
func withoutToken(r *http.Request) *http.Request {
	r.Header = r.Header.Clone()
	r.Header.Del("Authorization")
	return r
}

func unauthorized(w http.ResponseWriter, challenge, code, message string) {
	w.Header().Set("WWW-Authenticate", challenge)
	JSONError(w, http.StatusUnauthorized, code, message)
}
