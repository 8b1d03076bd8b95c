package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/openleash/openleash-go/identity"
)

// The form of a policy as types: what keys there are, which must be there, and
// what is said of them to who writes one. The parser takes the keys from here,
// and so does the schema, so that neither knows one that the other does not.

type policyForm struct {
	Version   int         `json:"version" jsonschema:"the version of the language: 1"`
	AppliesTo any         `json:"applies_to,omitempty" jsonschema:"whom it binds: owner (every agent), {agent: NAME} or {group: NAME}; without it the place of the file says so"`
	Rank      *int        `json:"rank,omitempty" jsonschema:"a lower one is asked earlier among policies of the same layer (agent, group, owner); without it 100"`
	Mode      string      `json:"mode,omitempty" jsonschema:"shadow: the log says what it would have decided, and it decides nothing"`
	Default   string      `json:"default" jsonschema:"what holds when no rule matches; passthrough leaves it to the next policy"`
	Rules     []ruleForm  `json:"rules" jsonschema:"asked from top to bottom: the first that matches decides"`
	Limits    []limitForm `json:"limits,omitempty" jsonschema:"they bind whatever is allowed, by whichever policy's rule"`
	Log       []logForm   `json:"log,omitempty" jsonschema:"what the log keeps of arguments; without it all but what looks like a secret"`
}

type logForm struct {
	Action    string   `json:"action" jsonschema:"an action type (purchase), one and all below it (communication.*), or * for all"`
	Arguments string   `json:"arguments,omitempty" jsonschema:"hash: the log keeps no arguments, only their hashes"`
	Mask      []string `json:"mask,omitempty" jsonschema:"paths, $.payload.arguments.to[*]: what stands there is masked in the log"`
}

type scopeForm struct {
	Agent string `json:"agent,omitempty" jsonschema:"the name of the one agent that it binds"`
	Group string `json:"group,omitempty" jsonschema:"the name of a group of the configuration, whose agents it binds"`
}

type ruleForm struct {
	ID           string           `json:"id" jsonschema:"its name in answers and in the log; once in a file"`
	Description  string           `json:"description,omitempty" jsonschema:"one sentence for people: the reason of the decision"`
	Effect       string           `json:"effect" jsonschema:"what it means when the rule matches"`
	Final        bool             `json:"final,omitempty" jsonschema:"on a deny: nothing overrides it"`
	Action       string           `json:"action" jsonschema:"an action type (purchase), one and all below it (communication.*), or * for all"`
	When         *conditionForm   `json:"when,omitempty" jsonschema:"a condition: exactly one of all, any, not, match"`
	Constraints  constraintsForm  `json:"constraints,omitempty" jsonschema:"when the rule matches, by amount, currency and domains"`
	Schedule     scheduleForm     `json:"schedule,omitempty" jsonschema:"when the rule matches, by the clock of a place"`
	Expires      string           `json:"expires,omitempty" jsonschema:"the rule matches before this instant only: 2026-12-31T18:00:00+01:00"`
	Requirements requirementsForm `json:"requirements,omitempty" jsonschema:"how sure it must be that the owner has answered"`
	Obligations  []obligationForm `json:"obligations,omitempty" jsonschema:"what must be done before an allow counts"`
	Proof        proofForm        `json:"proof,omitempty" jsonschema:"the proof that a forwarded call carries"`
	Limits       []limitForm      `json:"limits,omitempty" jsonschema:"they bind what this rule allows"`
}

type limitForm struct {
	ID            string   `json:"id" jsonschema:"its name in answers and in the log; what was used is counted by it"`
	Action        string   `json:"action,omitempty" jsonschema:"beside rules: an action type (purchase), one and all below it, or * for all"`
	Sum           string   `json:"sum,omitempty" jsonschema:"the path of the amount that is added up: $.payload.amount_minor"`
	Count         bool     `json:"count,omitempty" jsonschema:"true: the actions are counted"`
	Max           int64    `json:"max" jsonschema:"the most in a window, in whole minor units: 8500 is 85.00"`
	Currency      string   `json:"currency,omitempty" jsonschema:"the one currency of the amounts; another is over the limit"`
	Per           []string `json:"per,omitempty" jsonschema:"what is counted apart: agent, owner, vendor, or a path"`
	Window        string   `json:"window" jsonschema:"a length that ends now (30m, 24h), or day, week, month"`
	Timezone      string   `json:"timezone,omitempty" jsonschema:"where the day, week or month begins: Europe/Berlin, UTC"`
	Over          string   `json:"over,omitempty" jsonschema:"what an action gets that does not fit; without it deny"`
	OnError       string   `json:"on_error,omitempty" jsonschema:"release: an error that the server answers gives the amount back"`
	ReserveOnHold bool     `json:"reserve_on_hold,omitempty" jsonschema:"true: what waits for its owner is set aside"`
	Explain       string   `json:"explain,omitempty" jsonschema:"minimal: a refusal does not say how much is left"`
}

type scheduleForm struct {
	Days     []string `json:"days,omitempty" jsonschema:"days of the week; without them every day"`
	Hours    any      `json:"hours,omitempty" jsonschema:"times of day, 09:00-17:00, or a list of such; 22:00-06:00 goes into the next day"`
	Timezone string   `json:"timezone" jsonschema:"whose clock: Europe/Berlin, UTC"`
}

type conditionForm struct {
	All   []*conditionForm `json:"all,omitempty" jsonschema:"every one must hold"`
	Any   []*conditionForm `json:"any,omitempty" jsonschema:"one must hold"`
	Not   *conditionForm   `json:"not,omitempty" jsonschema:"it must not hold; what is unknown or missing stays so"`
	Match matchForm        `json:"match,omitempty" jsonschema:"a look at one value"`
}

type matchForm struct {
	Path  string `json:"path" jsonschema:"where: $.payload.…, $.tool.…, $.relying_party.domain, …"`
	Op    string `json:"op" jsonschema:"what is asked"`
	Value any    `json:"value,omitempty" jsonschema:"what it is compared with: a list for in, nin and keys, anything for is, a pattern or a list of patterns for domain, email, url and file, none for exists"`
}

type constraintsForm struct {
	AmountMin      *int64   `json:"amount_min,omitempty" jsonschema:"least $.payload.amount_minor, in whole minor units: 8500 is 85.00"`
	AmountMax      *int64   `json:"amount_max,omitempty" jsonschema:"most $.payload.amount_minor, in whole minor units: 8500 is 85.00"`
	Currency       []string `json:"currency,omitempty" jsonschema:"codes, one of which $.payload.currency must be"`
	MerchantDomain []string `json:"merchant_domain,omitempty" jsonschema:"domains, or *.domain for those below it: the merchant must be one of them"`
	AllowedDomains []string `json:"allowed_domains,omitempty" jsonschema:"domains: the one of the action must be among them"`
	BlockedDomains []string `json:"blocked_domains,omitempty" jsonschema:"domains: the one of the action must not be among them"`
}

type requirementsForm struct {
	MinAssuranceLevel string `json:"min_assurance_level,omitempty" jsonschema:"adds the owner's second factor (STEP_UP_AUTH)"`
}

type obligationForm struct {
	Type   string         `json:"type" jsonschema:"what must be done"`
	Params map[string]any `json:"params,omitempty" jsonschema:"kept and shown"`
}

type proofForm struct {
	Required   *bool `json:"required,omitempty" jsonschema:"false: the call goes without a proof"`
	TTLSeconds *int  `json:"ttl_seconds,omitempty" jsonschema:"how long the proof is valid, in seconds"`
}

// The words that may stand in one place.
var (
	modes           = []string{"enforce", "shadow"}
	defaults        = []string{"allow", "deny", "passthrough", "require_approval"}
	effects         = []string{"allow", "deny"}
	operators       = []string{"eq", "neq", "in", "nin", "lt", "lte", "gt", "gte", "regex", "exists", "is", "keys", "domain", "email", "url", "file"}
	levels          = []string{"LOW", "SUBSTANTIAL", "HIGH"}
	overs           = []string{"deny", "require_approval", "require_step_up"}
	recordedAs      = []string{"hash"}
	obligationTypes = []string{HumanApproval, StepUpAuth, Deposit, CounterpartyAttestation}
)

// formKeys are the keys of forms that were asked for, by type: every rule asks.
var formKeys sync.Map

// keysIn are the keys of a form, in its order. Nobody may change them.
func keysIn[T any]() (keys []string) {
	form := reflect.TypeFor[T]()
	if known, ok := formKeys.Load(form); ok {
		return known.([]string)
	}
	for f := range form.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, name)
	}
	keys = slices.Clip(keys) // who appends gets a copy
	formKeys.Store(form, keys)
	return keys
}

// Schema is the JSON Schema (draft 2020-12) of a policy, for editors: what they
// complete and explain. What only Parse can know (a path, a pattern) it does not
// say.
func Schema() ([]byte, error) {
	condition, err := formOf[conditionForm]()
	if err != nil {
		return nil, err
	}
	root, err := formOf[policyForm]()
	if err != nil {
		return nil, err
	}
	root.Schema, root.Title = "https://json-schema.org/draft/2020-12/schema", "OpenLeash policy, version 1"
	root.Defs = map[string]*jsonschema.Schema{"condition": condition}
	restrict(root, condition)
	if err := restrictScope(root); err != nil {
		return nil, err
	}
	return json.MarshalIndent(root, "", "  ")
}

// formOf is the schema of a form, in which conditions are references.
func formOf[T any]() (*jsonschema.Schema, error) {
	self := reflect.TypeFor[conditionForm]()
	refs := map[reflect.Type]*jsonschema.Schema{}
	if reflect.TypeFor[T]() != self {
		refs[self] = &jsonschema.Schema{Type: "object", Ref: "#/$defs/condition"}
		return jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: refs})
	}
	// A type that holds itself: its fields are its schema.
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for f := range self.Fields() {
		refs := map[reflect.Type]*jsonschema.Schema{self: {Type: "object", Ref: "#/$defs/condition"}}
		field, err := jsonschema.ForType(f.Type, &jsonschema.ForOptions{TypeSchemas: refs})
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		field.Description = f.Tag.Get("jsonschema")
		s.Properties[name], s.PropertyOrder = field, append(s.PropertyOrder, name)
	}
	return s, nil
}

// restrict says what types alone do not.
func restrict(root, condition *jsonschema.Schema) {
	rule := root.Properties["rules"].Items
	match := condition.Properties["match"]
	obligation := rule.Properties["obligations"].Items
	condition.MinProperties, condition.MaxProperties = jsonschema.Ptr(1), jsonschema.Ptr(1)
	root.Properties["version"].Enum = []any{1}
	root.Properties["mode"].Enum = words(modes)
	root.Properties["default"].Enum = words(defaults)
	rule.Properties["effect"].Enum = words(effects)
	rule.Properties["id"].MinLength = jsonschema.Ptr(1)
	rule.Properties["action"].Pattern = `^(\*|[^*]+(\.\*)?)$`
	rule.Properties["requirements"].Properties["min_assurance_level"].Enum = words(levels)
	match.Properties["op"].Enum = words(operators)
	match.Properties["path"].Pattern = `^\$\.`
	obligation.Properties["type"].Enum = words(obligationTypes)
	obligation.AdditionalProperties = nil // kept and shown
	days := rule.Properties["schedule"].Properties["days"]
	days.Items.Enum, days.MinItems = words(weekdays), jsonschema.Ptr(1)
	rule.Properties["schedule"].AnyOf = []*jsonschema.Schema{{Required: []string{"days"}}, {Required: []string{"hours"}}}
	rule.Properties["expires"].Pattern = `^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d`
	restrictLimits(root.Properties["limits"].Items)
	restrictLimits(rule.Properties["limits"].Items)
	ofRule := rule.Properties["limits"].Items // its actions are the rule's
	delete(ofRule.Properties, "action")
	ofRule.PropertyOrder = slices.DeleteFunc(slices.Clone(ofRule.PropertyOrder), func(key string) bool { return key == "action" })
	ttl := rule.Properties["proof"].Properties["ttl_seconds"]
	ttl.Minimum, ttl.Maximum = jsonschema.Ptr(1.0), jsonschema.Ptr(maxProofTTL.Seconds())
	for _, s := range rule.Properties["constraints"].Properties {
		if s.Type == "array" || len(s.Types) > 0 && s.Types[len(s.Types)-1] == "array" {
			s.MinItems = jsonschema.Ptr(1)
		} else {
			s.Minimum = jsonschema.Ptr(0.0)
		}
	}
	restrictLog(root.Properties["log"].Items)
	withoutNull(root)
	withoutNull(condition)
}

// restrictScope says for whom a policy may be, and its rank.
func restrictScope(root *jsonschema.Schema) error {
	named, err := formOf[scopeForm]()
	if err != nil {
		return err
	}
	for _, p := range named.Properties {
		p.Pattern = identity.NamePattern
	}
	named.MinProperties, named.MaxProperties = jsonschema.Ptr(1), jsonschema.Ptr(1)
	root.Properties["applies_to"].OneOf = []*jsonschema.Schema{{Enum: []any{"owner"}}, named}
	rank := root.Properties["rank"]
	rank.Minimum, rank.Maximum = jsonschema.Ptr(0.0), jsonschema.Ptr(float64(maxRank))
	return nil
}

func restrictLimits(limit *jsonschema.Schema) {
	p := limit.Properties
	p["id"].Pattern, p["currency"].Pattern = limitNameForm.String(), currencyForm.String()
	p["action"].Pattern = `^(\*|[^*]+(\.\*)?)$`
	p["sum"].Pattern = `^\$\.`
	p["count"].Enum = []any{true}
	p["max"].Minimum, p["max"].Maximum = jsonschema.Ptr(0.0), jsonschema.Ptr(float64(maxAmount))
	p["per"].MinItems, p["per"].Items.Pattern = jsonschema.Ptr(1), `^(agent|owner|vendor|\$\..*)$`
	p["window"].Pattern = `^([1-9][0-9]{0,4}[mh]|day|week|month)$`
	p["over"].Enum, p["on_error"].Enum, p["explain"].Enum = words(overs), []any{"release"}, []any{"minimal"}
	limit.OneOf = []*jsonschema.Schema{{Required: []string{"sum"}}, {Required: []string{"count"}}}
	calendar := &jsonschema.Schema{Properties: map[string]*jsonschema.Schema{"window": {Enum: words(periods), Description: "of the calendar"}}}
	limit.If, limit.Then = calendar, &jsonschema.Schema{Required: []string{"timezone"}}
	limit.Else = &jsonschema.Schema{Not: &jsonschema.Schema{Required: []string{"timezone"}}}
}

func restrictLog(log *jsonschema.Schema) {
	p := log.Properties
	p["action"].Pattern = `^(\*|[^*]+(\.\*)?)$`
	p["arguments"].Enum = words(recordedAs)
	p["mask"].MinItems, p["mask"].Items.Pattern = jsonschema.Ptr(1), `^\$\.(payload([.\[].*)?|relying_party(\.(domain|rp_id|trust_profile))?)$`
	log.OneOf = []*jsonschema.Schema{{Required: []string{"arguments"}}, {Required: []string{"mask"}}}
}

// withoutNull takes null away: a key that is there has a value.
func withoutNull(s *jsonschema.Schema) {
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	for _, p := range s.Properties {
		withoutNull(p)
	}
	if s.Items != nil {
		withoutNull(s.Items)
	}
}

func words(list []string) (all []any) {
	for _, w := range list {
		all = append(all, w)
	}
	return all
}
