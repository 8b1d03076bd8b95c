package proxy

import (
	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// hideDenied leaves out of a list of tools those that the policy denies this
// agent whatever the arguments. The others stay as they were written.
func (p *Proxy) hideDenied(who authz.Caller, raw []byte) []byte {
	root, err := action.Parse(raw, anyMessage(raw))
	if err != nil {
		return raw
	}
	list := root.Get("result").Get("tools")
	kept, hidden := []byte{'['}, 0
	for _, t := range list.Items() {
		if p.isHidden(who, t.Get("name").Text()) {
			hidden++
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, t.Raw()...)
	}
	if hidden == 0 {
		return raw
	}
	at := span{list.Start(), list.Start() + len(list.Raw())}
	return applyEdits(raw, edit{at, string(kept) + "]"})
}

func (p *Proxy) isHidden(who authz.Caller, name string) bool {
	mapped, _ := p.Mapping.describe(p.Name, name)
	return p.Service.DeniesOutright(who, mapped.ActionType, p.toolInfo(name, mapped))
}
