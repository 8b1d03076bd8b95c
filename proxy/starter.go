package proxy

import "sync"

// Starter starts a server's processes, the first one perhaps before anybody has
// asked for it.
type Starter struct {
	Command func() (Command, error)

	mu    sync.Mutex
	ahead *Child
}

// Ahead starts a process that the next Start returns.
func (s *Starter) Ahead() error {
	ch, err := s.child()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ch
	return nil
}

// Start returns the process that was started ahead, if it lives, or a new one.
func (s *Starter) Start() (Conn, error) {
	if ch := s.take(); ch != nil && !ch.ended() {
		return ch, nil
	}
	ch, err := s.child()
	if err != nil {
		return nil, err // and not a Conn that is nil inside
	}
	return ch, nil
}

// Close ends the process that was started ahead and is not taken.
func (s *Starter) Close() {
	if ch := s.take(); ch != nil {
		ch.Close()
	}
}

func (s *Starter) take() *Child {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.ahead
	s.ahead = nil
	return ch
}

func (s *Starter) child() (*Child, error) {
	c, err := s.Command()
	if err != nil {
		return nil, err
	}
	return StartChild(c)
}
