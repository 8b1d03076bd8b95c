package main

import (
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/internal/watchdog"
	"github.com/openleash/openleash-go/proxy"
)

// starter starts a server's processes. What its environment needs is looked for
// each time.
func (a *app) starter(s Server) *proxy.Starter {
	return &proxy.Starter{Command: func() (proxy.Command, error) { return a.command(s) }}
}

// command is how a server is started.
func (a *app) command(s Server) (proxy.Command, error) {
	c := proxy.Command{
		Name: s.Name, Args: s.commandLine(), Dir: s.Cwd, Env: s.environ,
		Say: a.serverLog(s.Name), Limits: a.config.limits(), Within: a.children,
	}
	own, err := expand(s.Env, "server "+s.Name+": env")
	if err != nil {
		return c, err
	}
	if err := s.become(&c, own); err != nil {
		return c, err
	}
	if c.Env == nil {
		c.Env = proxy.ChildEnv(own)
	}
	return c, nil
}

// serverLog puts a server's words for people into our log. They begin with its
// name, so that it cannot speak in ours or in another's.
func (a *app) serverLog(name string) func(line string) {
	return func(line string) {
		a.log.Info().Msg(name + ": " + visible.Line(strings.ReplaceAll(strings.ToValidUTF8(line, "?"), "\t", "    ")))
	}
}

// become makes a command run as the user of run_as, with that user's home.
func (s Server) become(c *proxy.Command, env map[string]string) error {
	u, err := s.account()
	if err != nil || u == nil {
		return err
	}
	if c.As, err = credentials(u); err != nil {
		return fmt.Errorf("server %s: run_as: %w", s.Name, err)
	}
	for name, value := range map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username} {
		if _, own := env[name]; !own {
			env[name] = value
		}
	}
	if c.Dir == "" {
		c.Dir = u.HomeDir // ours is not that user's to enter
		if _, err := os.Stat(c.Dir); err != nil {
			c.Dir = "/"
		}
	}
	return nil
}

// account is the user of run_as; nil when there is none. Who is not root is
// told so here, before anything is started.
func (s Server) account() (*user.User, error) {
	switch {
	case s.RunAs == "":
		return nil, nil
	case runtime.GOOS == "windows":
		return nil, fmt.Errorf("server %s: run_as: Windows has no way to start a program as another user without that user's password; start OpenLeash as that user", s.Name)
	case os.Geteuid() != 0:
		return nil, withHint(fmt.Errorf("server %s: run_as: %s: only root can start a program as another user, and OpenLeash runs as user %d", s.Name, s.RunAs, os.Geteuid()),
			"start OpenLeash as root, or take run_as out of the configuration")
	}
	u, err := user.Lookup(s.RunAs)
	if err != nil {
		return nil, fmt.Errorf("server %s: run_as: no user %q on this system: %w", s.Name, s.RunAs, err)
	}
	return u, nil
}

func credentials(u *user.User) (*watchdog.User, error) {
	names, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of %s: %w", u.Username, err)
	}
	var ids []uint32
	for _, text := range append([]string{u.Uid, u.Gid}, names...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s has the id %q, which is no number", u.Username, text)
		}
		ids = append(ids, uint32(id))
	}
	return &watchdog.User{UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}
