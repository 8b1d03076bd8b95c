package action

import "testing"

// The numbers of each line are less than those of the next, and equal to each other.
func TestCompare(t *testing.T) {
	lines := [][]string{
		{"-1e300"},
		{"-9007199254740993", "-9007199254740993.0"},
		{"-9007199254740992"},
		{"-1.5", "-15e-1"},
		{"-0.001"},
		{"0", "-0", "0.00", "0e9"},
		{"1e-300"},
		{"0.1", "1e-1"},
		{"0.12"},
		{"0.123"},
		{"1", "1.0", "10e-1"},
		{"9.99999999999999999999"},
		{"10", "1e1"},
		{"9007199254740992"},
		{"9007199254740993"},
		{"1e300"},
	}
	for i, line := range lines {
		for _, a := range line {
			for j, other := range lines {
				for _, b := range other {
					want := 0
					if i < j {
						want = -1
					} else if i > j {
						want = 1
					}
					if got, ok := number(a).Compare(number(b)); got != want || !ok {
						t.Errorf("%s and %s: want %d, got %d, %t", a, b, want, got, ok)
					}
				}
			}
		}
	}
	for _, v := range []Value{{}, NullValue(), BoolValue(true), StringValue("5"), ArrayValue(IntValue(5))} {
		if _, ok := v.Compare(IntValue(5)); ok {
			t.Errorf("%s was compared with a number", v.Kind())
		}
		if _, ok := IntValue(5).Compare(v); ok {
			t.Errorf("a number was compared with %s", v.Kind())
		}
	}
}
