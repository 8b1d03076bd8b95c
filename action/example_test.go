package action_test

import (
	"fmt"

	"github.com/openleash/openleash-go/action"
)

func ExampleValue_Canonical() {
	v, err := action.Parse([]byte(`{"b": 1.10, "a": [1e2, 9007199254740993], "€": "\u00e9\u0007"}`), action.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", v.Canonical())
	fmt.Println(v.Exact())
	// Output:
	// {"a":[100,9007199254740993],"b":1.1,"€":"é\u0007"}
	// $.a[1] false
}

func ExampleParse() {
	_, err := action.Parse([]byte(`{"params":{"name":"read","Name":"delete"}}`), action.Limits{})
	fmt.Println(err)
	// Output:
	// JSON, byte 25, at $.params.Name: this key differs from "name" only in case, and some readers take one for the other
}

func ExampleCallHash() {
	arguments, err := action.Parse([]byte(`{"amount": 85.00}`), action.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(action.CallHash("buy", arguments))
	// Output:
	// sha256:112a3febd79cca63dfa6cb4422c3f75bc46158e84df30072a67c21ac4646d63f
}
