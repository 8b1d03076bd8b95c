package audit_test

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/openleash/openleash-go/audit"
)

// Two lines of a log, and the sum that binds the second to the first.
func Example() {
	const log = `{"seq":1,"prev":"sha256:0000000000000000000000000000000000000000000000000000000000000000","ts":"2026-05-05T13:42:10.000Z","event":"started","actor_type":"system","actor_id":"openleash","action_type":null,"action_id":null,"decision":null,"policy_id":null,"proof_kid":null,"signature_valid":null}
{"seq":2,"prev":"sha256:01f7a0f360df67b8eb2ac3a6f53e18e2da243b7cc6787a02a473deb06683cb81","ts":"2026-05-05T13:42:11.000Z","event":"decision","actor_type":"agent","actor_id":"buyer","action_type":"send_email","action_id":"8e3b1c52-6f0d-4a53-9c1e-0b6c6f2f7d11","decision":"ALLOW","policy_id":"default-mail","proof_kid":"k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs","signature_valid":true}
`
	first, _, _ := strings.Cut(log, "\n")
	fmt.Printf("sha256:%x\n", sha256.Sum256([]byte(first)))

	report, err := audit.Verify(strings.NewReader(log), 0, "")
	fmt.Println(report.Entries, len(report.Faults), err)
	fmt.Println(report.Head)

	edited := strings.Replace(log, `"started"`, `"stopped"`, 1)
	report, _ = audit.Verify(strings.NewReader(edited), 0, "")
	fmt.Println("line", report.Faults[0].Line, "was changed")
	// Output:
	// sha256:01f7a0f360df67b8eb2ac3a6f53e18e2da243b7cc6787a02a473deb06683cb81
	// 2 0 <nil>
	// sha256:f1a4a2a698a9b3cd609861f4e205509dfdb8c35ca2c43e0c31c57fb28eeeb1f9
	// line 1 was changed
}

// An entry as it is written: only what JSON demands is escaped.
func ExampleEncode() {
	entry, err := audit.Encode(audit.Entry{
		TS: "2026-05-05T13:42:10.000Z", Event: "outcome", ActorType: "system", ActorID: "openleash", Detail: `a<b && "c">é`,
	})
	fmt.Println(string(entry), err)
	// Output:
	// {"ts":"2026-05-05T13:42:10.000Z","event":"outcome","actor_type":"system","actor_id":"openleash","action_type":null,"action_id":null,"decision":null,"policy_id":null,"proof_kid":null,"signature_valid":null,"detail":"a<b && \"c\">é"} <nil>
}
