package approvals

import (
	"fmt"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
)

func value(t testing.TB, text string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(text), action.Limits{CaseTwins: true})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// Pairs of texts that a model could have written, at the same place of a call.
func TestNear(t *testing.T) {
	const reminder = "Hi Bob, just a quick reminder that the quarterly report is due on Friday. Please send me your numbers by Thursday evening. Thanks, Ann"
	for _, tt := range []struct {
		name string
		a, b string
		want bool
	}{
		{"reworded", reminder, "Hello Bob, a short reminder: the quarterly report is due this Friday. Could you send me your figures by Thursday evening? Thank you, Ann", true},
		{"polite", reminder, "Dear Bob, I hope you are well. This is a friendly reminder that our quarterly report is due on Friday, so please send your numbers to me by Thursday evening. Kind regards, Ann", true},
		{"shorter", reminder, "Bob, the quarterly report is due Friday. Please send your numbers by Thursday evening. Ann", true},
		{"other white space", reminder, strings.ReplaceAll(reminder, ". ", ".\n\n"), true},
		{"marked up", reminder, "**Hi Bob,**\n\n- just a quick reminder that the *quarterly report* is due on Friday 🙂\n- please send me your numbers by Thursday evening\n\nThanks, Ann", true},
		{"German", "Hallo Frau Berger, hiermit bestätige ich unseren Termin am Dienstag um neun Uhr in Ihrem Büro. Viele Grüße, Ann", "Guten Tag Frau Berger, gerne bestätige ich Ihnen den Termin am Dienstag um neun Uhr in Ihrem Büro. Mit freundlichen Grüßen, Ann", true},
		{"Japanese", "田中様、会議は5月3日の午前に変更になりました。ご確認をお願いいたします。", "田中様、会議が5月3日の午前に変更となりました。どうぞご確認ください。お願いいたします。", true},
		{"an invoice", "Dear Ms Larsson, please find attached invoice INV-2231 over 450.00 EUR, due on 2026-12-01. Best regards, Ann", "Dear Ms Larsson, attached you will find the invoice INV-2231 over 450.00 EUR. It is due on 2026-12-01. Kind regards, Ann", true},

		{"another mail to the same person", reminder, "Hi Bob, the kitchen on the third floor is closed for cleaning until Monday. Please use the one downstairs instead. Thanks, Ann", false},
		{"another mail of that kind", reminder, "Hi Bob, would you like to join us for lunch on Wednesday? We are going to the new place at the corner. Thanks, Ann", false},
		{"another language", reminder, "Hallo Bob, zur Erinnerung: der Bericht zum Quartal ist am Freitag fällig. Bitte schick mir deine Zahlen. Danke, Ann", false},
		{"another amount", "Dear Ms Larsson, please find attached invoice INV-2231 over 450.00 EUR. Best regards, Ann", "Dear Ms Larsson, please find attached invoice INV-2231 over 4500.00 EUR. Best regards, Ann", false},
		{"another number in words' midst", "Please order 3 boxes of the usual paper for the office upstairs", "Please order 30 boxes of the usual paper for the office upstairs", false},
		{"numbers that have changed places", "Please move 3 boxes from room 4 to the office upstairs", "Please move 4 boxes from room 3 to the office upstairs", false},
		{"another address", "Please write to ann@a.example about the quarterly report that is due on Friday", "Please write to ann@b.example about the quarterly report that is due on Friday", false},
		{"another page", "Read the quarterly report at https://a.example/x and tell me what it says", "Read the quarterly report at https://a.example/y and tell me what it says", false},
		{"another host", "Read the quarterly report on a.example and tell me what it says", "Read the quarterly report on b.example and tell me what it says", false},
		{"another path", "Please delete the old folder /srv/data and tell me when it is done", "Please delete the old folder /srv and tell me when it is done", false},
		{"a flag more", "Please run the clean up in the old folder and tell me when done", "Please run the clean up -rf in the old folder and tell me when done", false},
		{"what cannot be seen", "Please send the quarterly report to everybody in the whole office", "Please send the quarterly rep\u200bort to everybody in the whole office", false},
		{"code", "if (a < b) { return a.first(b, true); } else { return b; } // the usual way", "if (a > b) { return a.last(b, true); } else { return b; } // the usual way", false},
		{"short questions", "what is the weather in Paris", "what is the weather in London", false},
		{"names", "Anna Svensson", "Anna Larsson", false},
		{"nothing of it", reminder, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			likeness, near := Near(mail(t, tt.a), mail(t, tt.b))
			if near != tt.want || near != (likeness > 0) {
				t.Errorf("near: %t, %.2f; want %t", near, likeness, tt.want)
			}
			if back, same := Near(mail(t, tt.b), mail(t, tt.a)); back != likeness || same != near {
				t.Errorf("the other way round: %t, %.2f", same, back)
			}
		})
	}
}

func mail(t testing.TB, text string) action.Value {
	return action.ObjectValue(action.Member{Key: "to", Value: action.StringValue("bob@b.example")}, action.Member{Key: "text", Value: action.StringValue(text)})
}

// All but prose has to be equal.
func TestNearValues(t *testing.T) {
	const a = `"please send me your numbers for the quarterly report"`
	const b = `"please send your figures for the quarterly report"`
	for _, tt := range []struct {
		name, x, y string
		want       bool
	}{
		{"the text alone", `{"a":1,"t":` + a + `}`, `{"a":1,"t":` + b + `}`, true},
		{"in another order", `{"a":1,"t":` + a + `}`, `{"t":` + b + `,"a":1.0}`, true},
		{"in a list", `{"l":[{"t":` + a + `},null,true]}`, `{"l":[{"t":` + b + `},null,true]}`, true},
		{"a title beside it", `{"s":"Quarterly report: numbers","t":` + a + `}`, `{"s":"Numbers for the quarterly report","t":` + b + `}`, true},
		{"equal", `{"t":` + a + `}`, `{"t":` + a + `}`, true},
		{"another number", `{"a":1,"t":` + a + `}`, `{"a":2,"t":` + b + `}`, false},
		{"a number beyond a double", `{"a":9007199254740993,"t":` + a + `}`, `{"a":9007199254740992,"t":` + b + `}`, false},
		{"another truth", `{"a":true,"t":` + a + `}`, `{"a":false,"t":` + b + `}`, false},
		{"null", `{"a":null,"t":` + a + `}`, `{"a":false,"t":` + b + `}`, false},
		{"a member less", `{"a":1,"t":` + a + `}`, `{"t":` + b + `}`, false},
		{"another member", `{"a":1,"t":` + a + `}`, `{"b":1,"t":` + b + `}`, false},
		{"in other letters", `{"a":1,"t":` + a + `}`, `{"A":1,"t":` + b + `}`, false},
		{"an item more", `{"to":["x"],"t":` + a + `}`, `{"to":["x","y"],"t":` + b + `}`, false},
		{"items in another order", `{"to":["x","y"],"t":` + a + `}`, `{"to":["y","x"],"t":` + b + `}`, false},
		{"another address", `{"to":"a@a.example","t":` + a + `}`, `{"to":"b@a.example","t":` + b + `}`, false},
		{"another name", `{"to":"Ann","t":` + a + `}`, `{"to":"Bob","t":` + b + `}`, false},
		{"another title", `{"s":"Quarterly report: numbers","t":` + a + `}`, `{"s":"Lunch on Wednesday maybe","t":` + b + `}`, false},
		{"no text", `{"a":1}`, `{"a":1}`, false},
		{"missing", ``, ``, false},
	} {
		var x, y action.Value
		if tt.x != "" {
			x, y = value(t, tt.x), value(t, tt.y)
		}
		if _, near := Near(x, y); near != tt.want {
			t.Errorf("%s: near is %t", tt.name, near)
		}
		if _, near := Near(y, x); near != tt.want {
			t.Errorf("%s, the other way round: near is %t", tt.name, near)
		}
	}
}

// FuzzNear: it is symmetric, and near is only what is equal when its texts are
// taken out.
func FuzzNear(f *testing.F) {
	const text = `"please send me your numbers for the quarterly report %s"`
	for _, a := range []string{"%s", `{"a":1,"t":%s}`, `[%s,[true,null]]`, `{"a":{"b":%s},"A":"x"}`} {
		for _, b := range []string{"%s", `{"a":2,"t":%s}`, `[%s,[true,null]]`, `{"a":{"b":%s},"A":"y"}`} {
			f.Add(fmt.Sprintf(a, fmt.Sprintf(text, "now")), fmt.Sprintf(b, fmt.Sprintf(text, "soon")))
		}
	}
	f.Fuzz(func(t *testing.T, left, right string) {
		if len(left) > 4<<10 || len(right) > 4<<10 {
			return
		}
		a, err1 := action.Parse([]byte(left), action.Limits{CaseTwins: true})
		b, err2 := action.Parse([]byte(right), action.Limits{CaseTwins: true})
		if err1 != nil || err2 != nil {
			return
		}
		likeness, near := Near(a, b)
		if back, same := Near(b, a); back != likeness || same != near {
			t.Errorf("%t %v, the other way round %t %v", near, likeness, same, back)
		}
		if likeness < 0 || likeness > 1 || near && likeness < alikeFrom {
			t.Errorf("a likeness of %v", likeness)
		}
		if near && string(withoutProse(a).Canonical()) != string(withoutProse(b).Canonical()) {
			t.Errorf("%s and %s are near, but differ in more than prose", left, right)
		}
	})
}

// withoutProse empties every text that has more than a few words, but for the
// digits and the signs of identifiers in it.
func withoutProse(v action.Value) action.Value {
	switch v.Kind() {
	case action.String:
		if len(strings.Fields(v.Text())) <= fewWords && !strings.ContainsFunc(v.Text(), unspaced) && !strings.ContainsAny(v.Text(), separators) {
			return v
		}
		return action.StringValue(strings.Map(func(r rune) rune {
			if strings.ContainsRune("0123456789@/\\$=&|<>~", r) {
				return r
			}
			return -1
		}, v.Text()))
	case action.Array:
		var items []action.Value
		for _, item := range v.Items() {
			items = append(items, withoutProse(item))
		}
		return action.ArrayValue(items...)
	case action.Object:
		var ms []action.Member
		for key, m := range v.Members() {
			ms = append(ms, action.Member{Key: key, Value: withoutProse(m)})
		}
		return action.ObjectValue(ms...)
	}
	return v
}

func BenchmarkNear(b *testing.B) {
	text := func(word string) action.Value {
		return mail(b, strings.Repeat("please send me your "+word+" for the quarterly report. ", MaxCompared/60))
	}
	x, y := text("numbers"), text("figures")
	for b.Loop() {
		Near(x, y)
	}
}
