package agent

// blame gives up what a server refused for its size, so that it is not sent for
// ever. When several things were under way it is not known which one it was: they
// are sent again, one at a time.
func (t *talk) blame(why error) {
	a := t.a
	it, _ := a.box.underway()
	switch {
	case !a.careful:
		a.careful = true
		return
	case it != nil:
		a.giveUp(it, why)
	case len(t.flight) > 0:
		a.disk.Drop(t.flight[0].rec, why)
	default:
		return
	}
	a.careful = false
}

// alone reports whether the next thing may be sent although one was refused.
func (t *talk) alone() bool {
	if !t.a.careful {
		return true
	}
	t.mu.Lock()
	back := len(t.flight)
	t.mu.Unlock()
	_, live := t.a.box.underway()
	return back == 0 && !live
}
