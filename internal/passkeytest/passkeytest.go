// Package passkeytest makes the passkeys of tests.
//
// Of one key in 128 a coordinate begins with a zero byte. virtualwebauthn leaves that out,
// as no authenticator may (RFC 9053, section 7.1.1): such keys are not made here.
package passkeytest

import "github.com/descope/virtualwebauthn"

// wholeKey is the length of a COSE key of P-256 whose coordinates have 32 bytes each.
const wholeKey = 77

// EC2 makes a passkey of P-256.
func EC2() virtualwebauthn.Credential {
	for {
		if c := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2); len(c.Key.AttestationData()) == wholeKey {
			return c
		}
	}
}
