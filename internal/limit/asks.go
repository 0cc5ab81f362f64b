package limit

import "slices"

// mostAsks is how many connections one Ask is for: they all wait for its answer.
const mostAsks = 64

// asks are those that the Remote is to be asked for, by exit.
type asks map[string][]*waiter

// add takes the slots of w here, and has the Remote asked for it; unless an answer for
// its exit is awaited: then it is asked for after that.
func (a *asks) add(t *Table, w *waiter) {
	exit := w.exit()
	if t.asking[exit] || len((*a)[exit]) == mostAsks {
		return
	}
	if *a == nil {
		*a = asks{}
	}
	for _, b := range w.budgets {
		b.take()
		b.shared.ask(1)
	}
	w.id, w.asking = t.nextID(), true
	(*a)[exit] = append((*a)[exit], w)
}

// exit returns the exit of the shared budgets of w.
func (w *waiter) exit() string {
	for _, b := range w.budgets {
		if b.shared != nil {
			return b.key.Exit
		}
	}
	return ""
}

// send asks.
func (a asks) send(t *Table) {
	for exit, waiters := range a {
		t.asking[exit] = true
		list := make([]Ask, len(waiters))
		for i, w := range waiters {
			list[i] = Ask{ID: w.id, Keys: sharedKeys(w.budgets), Dial: w.dial}
		}
		remote := t.remote
		remote.Ask(list, func(answers []Answer) { t.answered(remote, exit, waiters, answers) })
	}
}

// answerDue reports whether an answer for w is awaited. It will be the only one.
func (t *Table) answerDue(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.granted || w.refused != nil {
		return true
	}
	w.once = w.once || w.asking || t.remote != nil && together(w.budgets) && t.asking[w.exit()]
	return w.once
}

// answered acts on the answers of the Remote.
func (t *Table) answered(from Remote, exit string, waiters []*waiter, answers []Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if from == t.remote {
		delete(t.asking, exit)
	}
	for i, w := range waiters {
		a := answers[i]
		w.asking = false
		for _, b := range w.budgets {
			b.shared.ask(-1)
		}
		switch {
		case a.Granted && w.gone:
			untake(w.budgets)
			t.tell(Unused, w.id, w.budgets)
		case a.Granted:
			t.waiting = slices.DeleteFunc(t.waiting, func(x *waiter) bool { return x == w })
			w.granted = true
			w.goOn()
		default:
			untake(w.budgets)
			if b := t.budgets[a.Full]; b != nil && b.shared != nil && !a.Alone {
				b.shared.until, b.shared.last = now+int64(a.Again), a
			}
		}
	}
	t.serve(now)
	for i, w := range waiters {
		if w.granted || w.gone || w.asking {
			continue
		}
		if a := answers[i]; !a.Alone && a.RetryAfter > 0 && now+int64(a.RetryAfter) > w.end && w.refused == nil {
			w.refused = t.full(w.budgets, w.start, now)
			t.waiting = slices.DeleteFunc(t.waiting, func(x *waiter) bool { return x == w })
			w.goOn()
		}
	}
}
