package tunnel

// SlotsInUse is the number of dials under way.
func SlotsInUse(h *Handler) int {
	h.dials.mu.Lock()
	defer h.dials.mu.Unlock()
	return h.dials.used
}
